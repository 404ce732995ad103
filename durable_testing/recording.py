"""Golden histories: what the runs of an environment did, kept in files that are replayed from then on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable.client import Client

_NO_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9.~-]+")


async def record(client: Client, folder: Path) -> None:
    """Write the history of every run to `<workflow>-<run id>.history.json`; an older file is replaced."""
    async for run in client.list():
        name = _NO_FILE_NAME.sub("_", f"{run.workflow}-{run.id}")
        _keep(folder, name, await client.export_history(run.id))


def _keep(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.history.json").write_text(text, encoding="ascii")
