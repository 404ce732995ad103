"""The healing: nothing fails any more, and whatever has work to do must get on with it, and end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tests.simulation.programs import NEWEST
from tests.simulation.watch import Broken, Row

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process
    from tests.simulation.users import Users

_LONGEST: Final = 200.0
"""Virtual seconds within which every run ends once nothing fails any more."""
_DEPLOYED: Final = 0.3
"""Share of the healings in which all processes are new."""
_POLL: Final = 2.0
"""The longest pause of a poll, and a second more."""
_LOOK_AGAIN: Final = 10.0
"""How long a claim is given to show what it has become."""
_JUMP: Final = 6.0
"""How far at most the database's clock was put back: so much later leases expire."""


class Healing:
    """Watches a healed cluster until all runs have ended."""

    def __init__(self, cluster: Cluster, users: Users) -> None:
        self._cluster = cluster
        self._users = users
        self._idle: dict[int, tuple[object, float]] = {}
        """Of runs with work to do: how they stood, and since when nothing has happened to them."""
        back = "database clock back" in cluster.menu.fired
        # A new worker judges others when its own lease has held for a whole one, in rounds of a third.
        # A claim whose answer was lost is found again after ten seconds.
        self._patience = max(2.5 * cluster.lease, _LOOK_AGAIN) + _POLL + (_JUMP if back else 0.0)

    async def complete(self) -> None:
        """I14: everything ends: with the processes that are there, or with others and the newest code."""
        cluster = self._cluster
        cluster.heal()
        if len(cluster.versions) > 1:
            for version in (NEWEST, 2):
                cluster.deploy(version)
                await self._until_all_end()
        else:
            if cluster.random.random() < _DEPLOYED or self._open_and_blocked():
                cluster.deploy(max(cluster.versions))
            await self._until_all_end()
            if self._open():  # what has cost too many workers waits for other code
                cluster.deploy(max(cluster.versions))
                await self._until_all_end()
        await self._give_up_what_no_code_can_run()

    async def _until_all_end(self) -> None:
        """Until every run has ended or is blocked by this code."""
        cluster = self._cluster
        operator = cluster.process("operator")
        began = cluster.loop.elapsed()
        while rows := self._open():
            await asyncio.sleep(0.5)
            cluster.watch.check()
            await self._resume(operator)
            elapsed = cluster.loop.elapsed()
            if elapsed - began > self._patience and all(
                row.shown == "blocked" for row in self._open()
            ):
                return
            if elapsed - max(began, cluster.calm_from) > _LONGEST:
                raise Broken("I14", f"these runs do not end: {rows}")
            for row in self._open():
                self._check_progress(row, elapsed)

    def _open_and_blocked(self) -> bool:
        return any(row.shown == "blocked" for row in self._open())

    def _open(self) -> list[Row]:
        return [row for row in self._cluster.watch.rows.values() if not row.final]

    async def _resume(self, operator: Process) -> None:
        for row in self._open():
            if row.shown == "paused":
                await self._cluster.spawn(operator, self._users.operate(operator, "resume", row.id))

    def _check_progress(self, row: Row, elapsed: float) -> None:
        """I14: whoever has work to do gets on with it."""
        if not self._has_work(row):
            self._idle.pop(row.key, None)
            return
        stands = (row.seq, row.consumed, row.epoch)
        known, since = self._idle.get(row.key, (None, 0.0))
        if known != stands:
            self._idle[row.key] = stands, max(elapsed, self._cluster.calm_from)
        elif elapsed - since > self._patience:
            raise Broken("I14", f"{row} has had work to do for {elapsed - since:.1f} s")

    def _has_work(self, row: Row) -> bool:
        cluster = self._cluster
        if row.hold:
            return False
        if row.owner is None:
            return row.ready_at is not None and row.ready_at <= cluster.now()
        return row.inbox_head > row.consumed or row.owner not in cluster.watch.leases()

    async def _give_up_what_no_code_can_run(self) -> None:
        """I11: only runs of which two versions have written parts may be left."""
        cluster = self._cluster
        operator = cluster.process("operator")
        for row in self._open():
            if len(cluster.versions) == 1:
                raise Broken("I11", f"{row} is blocked, and its code has never changed")
            cluster.watch.figures["blocked for good"] += 1
            await cluster.spawn(operator, self._users.operate(operator, "terminate", row.id))
