"""Golden histories: what the runs of an environment did, kept in files that are replayed from then on."""

from __future__ import annotations

import re
from collections.abc import Container
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable.client import Client

_NO_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9.~-]+")
_MOST: Final = 100
"""Characters of a file's name that say which run it is: file systems take 255 in all."""


async def histories(client: Client, environment: str, *, but: Container[str]) -> dict[str, str]:
    """The history of every run that can be replayed, by the name of its file.

    `but` names runs that the code of their workflow has not driven. One that is blocked has come to where its
    code and its history part.
    """
    return {
        file_name(environment, run.workflow, run.id): await client.export_history(run.id)
        async for run in client.list()
        if run.status != "blocked" and run.id not in but
    }


def file_name(environment: str, workflow: str, run_id: str) -> str:
    """`<workflow>-<run id>-<digest>.history.json`: the same in every session, and no other run's."""
    told = _NO_FILE_NAME.sub("_", f"{workflow}-{run_id}")[:_MOST]
    digest = blake2b(f"{environment}\n{workflow}\n{run_id}".encode(), digest_size=4).hexdigest()
    return f"{told}-{digest}.history.json"
