"""The fingerprint of the code that a worker runs: another one may get on with a run that this one cannot."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable.model.runnable import Workflow


def code_fingerprint(workflows: Iterable[Workflow[Any, Any]]) -> str:
    """Hash of the sources of the workflows' modules and of the loaded modules of their packages."""
    packages = {workflow.fn.__module__.partition(".")[0] for workflow in workflows}
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(sys.modules):
        if name.partition(".")[0] in packages:
            digest.update(name.encode())
            digest.update(_source(sys.modules[name]))
    return digest.hexdigest()


def _source(module: Any) -> bytes:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return b""
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""
