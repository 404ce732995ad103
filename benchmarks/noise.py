"""How much of the machine others used while we measured: a figure made beside a busy neighbour is void.

All processor time of the machine, less that of this process with its children and of the PostgreSQL
server with its own. What the hypervisor took away counts as a neighbour too.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

NOISY = 0.10
"""Cores used by others from which on a measurement is marked."""

_TICKS = os.sysconf("SC_CLK_TCK")
_NOT_BUSY = (3, 4)  # idle and waiting for a disk
_COUNTED = 8  # the columns after these are counted in the others already


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds: of the clock, of all processors, and of them ours."""

    clock: float
    busy: float
    ours: float

    def others_since(self, before: Reading) -> float:
        """Cores that others used on average since an earlier reading."""
        busy, ours = self.busy - before.busy, self.ours - before.ours
        return max(0.0, busy - ours) / (self.clock - before.clock)


def read(server_pid: int | None) -> Reading:
    """Look at the clocks now. Children of ours that still run are not counted: let them end first."""
    columns = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + _COUNTED]
    busy = sum(int(value) for place, value in enumerate(columns) if place not in _NOT_BUSY)
    mine = os.times()
    ours = mine.user + mine.system + mine.children_user + mine.children_system
    server = _tree(server_pid) if server_pid else 0
    return Reading(time.monotonic(), busy / _TICKS, ours + server / _TICKS)


def _tree(pid: int) -> int:
    """Ticks of a process, of its children, and of those that it has buried."""
    try:
        # The name in parentheses may hold blanks; user, system and children's times follow it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0  # it ended just now
    return sum(int(value) for value in fields[11:15]) + sum(_tree(int(child)) for child in children)
