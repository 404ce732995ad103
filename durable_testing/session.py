"""What holds for all environments of one test session: the options of the pytest plugin."""

from __future__ import annotations

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
