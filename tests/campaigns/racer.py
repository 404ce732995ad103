"""One of many processes that start the same run at the same moment: they all wait for one pipe.

The process that calls the race writes as many bytes into the pipe as there are racers, in one write. Each
racer takes one, starts the run of that round, and reports on standard output. Two pipes take turns, so
that a fast racer cannot take the byte of a slow one for its next round.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
from collections.abc import Sequence

from durable import Client
from tests.campaigns import labour


def run_id(round_: int) -> str:
    """The run of a round."""
    return f"race-{round_}"


async def race(url: str, guns: Sequence[int]) -> None:
    async with Client(url) as client:
        say(ready=True)
        for round_ in itertools.count(1):
            if not await asyncio.to_thread(os.read, guns[round_ % 2], 1):
                return
            handle = await client.start(labour.pairs, round_, id=run_id(round_))
            say(round=round_, created=handle.created)


def say(**what: object) -> None:
    """One line, in one write."""
    os.write(1, (json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--guns", required=True, type=int, nargs=2)
    options = parser.parse_args()
    asyncio.run(race(options.url, options.guns))
