"""The healing, and the judgement."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.watch import Broken

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.patches import Lines
    from tests.simulation.users import Users

_LONGEST: Final = 150.0
"""Virtual seconds within which every run ends once nothing fails any more."""


_EXPECTED: Final = ("lost its lease: its runs go on elsewhere", "it is looked at again")
"""What a worker says aloud when it has met a fault."""


async def come_to_rest(cluster: Cluster, users: Users) -> None:
    cluster.heal()
    operator = cluster.process("operator")
    end = cluster.loop.elapsed() + _LONGEST
    while True:
        await asyncio.sleep(0.5)
        rows = [row for row in cluster.watch.rows.values() if not row.final]
        if not rows:
            return
        for row in rows:
            if row.shown == "paused":
                await cluster.spawn(operator, users.operate(operator, "resume", row.id))
        if cluster.loop.elapsed() > end:
            raise Broken("I14", f"these runs do not end: {rows}")


def judge(cluster: Cluster, users: Users, lines: Lines) -> None:
    for record in lines.records:
        if not record.getMessage().endswith(_EXPECTED):
            raise Broken("I24", f"{record.name} said: {record.getMessage()} {record.exc_info}")
    if users.unexpected:
        raise Broken("I5", users.unexpected[0])
