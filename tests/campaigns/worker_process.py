"""A worker process of a campaign: `python -m tests.campaigns.worker_process --url URL --ledger FILE`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from durable import Client, Worker
from tests.campaigns import collecting, labour
from tests.campaigns.effects import Ledger

LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
DRAINING, STOPPED = "draining", "stopped"
"""What a worker says of itself before it ends."""
LOOK_SECONDS = 0.01
_log = logging.getLogger("campaign")


async def work(options: argparse.Namespace) -> None:
    ledger = Ledger(options.ledger)
    async with Client(options.url) as client:
        worker = Worker(
            client,
            workflows=(*labour.WORKFLOWS, collecting.collect),
            queues={"default": options.slots},
            lease=options.lease,
            grace=options.grace,
            max_recoveries=options.max_recoveries,
        )
        labour.employ(ledger, lambda: worker.worker_id)
        telling = asyncio.create_task(tell_draining(worker))
        await worker.run()
        await telling
    _log.info(STOPPED)


async def tell_draining(worker: Worker) -> None:
    """Say so as soon as the worker takes nothing more."""
    while worker.health().details["state"] in {"new", "starting", "running"}:
        await asyncio.sleep(LOOK_SECONDS)
    _log.info(DRAINING)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--slots", type=int, default=50)
    parser.add_argument("--lease", type=float, default=1)
    parser.add_argument("--grace", type=float, default=30)
    parser.add_argument("--max-recoveries", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=LOG_FORMAT)
    logging.getLogger("campaign").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    asyncio.run(work(_options()))
