"""Where the figures come from: machine, versions, load. A figure without these means nothing."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.server import filesystem

BUSY_LOAD = 0.7
"""Above this load average at the start the figures are marked as made on a busy machine."""

_PACKAGES = """
import importlib.metadata, json, sys
names = sys.argv[1:]
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps({n: found[n] for n in names if n in found}))
"""
_NAMES = (
    "dbos",
    "msgpack",
    "psycopg",
    "psycopg-binary",
    "pydantic",
    "SQLAlchemy",
    "temporalio",
    "uvloop",
)


def about(dbos_python: Path | None) -> dict[str, Any]:
    """Everything a reader needs in order to compare these figures with his own."""
    here = Path(tempfile.gettempdir())
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem(here),
        "load_at_start": round(os.getloadavg()[0], 2),
        "busy": os.getloadavg()[0] > BUSY_LOAD,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit": _commit(),
        "packages": {
            "durable": _packages(Path(sys.executable)),
            "dbos": _packages(dbos_python) if dbos_python else None,
        },
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _packages(python: Path) -> dict[str, str]:
    command = [str(python), "-c", _PACKAGES, *_NAMES]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(answer.stdout)
    return versions


def _commit() -> str:
    """The commit measured; a `+` says that files differ from it."""
    where = Path(__file__).parent
    head = ["git", "-C", str(where), "describe", "--always", "--dirty=+", "--exclude=*"]
    answer = subprocess.run(head, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
