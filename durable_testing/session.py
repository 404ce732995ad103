"""What holds for all environments of one test session: the options of the pytest plugin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(slots=True)
class Session:
    """As pytest was started."""

    seed: int = 0
    """`--durable-seed`: of environments that are given none."""
    record_to: Path | None = None
    """`--durable-record`: where the histories of their runs go."""


SESSION: Final = Session()


def current_test() -> str:
    """The test that pytest is running, so that no two tests have runs of the same id; empty without pytest."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
