"""What goes into the database together with a run's events: messages, children, waits.

Each row is kept with the number of the event that it belongs to, and goes with the commit that carries that
event; so a batch that is sent again, grown or not, sends nothing twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from durable.model.rows import NewRun, NewWait, OutMessage


@dataclass(frozen=True, slots=True)
class EndedWait:
    """The wait of this command is over."""

    cmd: int


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """The event that this belongs to begins a new generation."""


Row: TypeAlias = OutMessage | NewRun | NewWait | EndedWait | NewGeneration


@dataclass(slots=True)
class Rows:
    """The rows of one commit, by kind."""

    messages: list[OutMessage] = field(default_factory=list[OutMessage])
    children: list[NewRun] = field(default_factory=list[NewRun])
    waits: dict[int, NewWait] = field(default_factory=dict[int, NewWait])
    ended_waits: dict[int, None] = field(default_factory=dict[int, None])
    first_seq: int | None = None


NO_ROWS = Rows()


class Outbox:
    """Rows that are not durable yet, in the order of their events."""

    __slots__ = ("_rows", "children")

    def __init__(self) -> None:
        self._rows: deque[tuple[int, Row]] = deque()
        self.children = 0
        """How many of the rows are children: whether they come to life is not known."""

    def add(self, seq: int, row: Row) -> None:
        """It goes with event number `seq`."""
        self._rows.append((seq, row))
        self.children += isinstance(row, NewRun)

    def until(self, seq: int) -> Rows:
        """What goes with the events up to `seq`."""
        if not self._rows:
            return NO_ROWS
        rows = Rows()
        for number, row in self._rows:
            if number > seq:
                break
            if isinstance(row, OutMessage):
                rows.messages.append(row)
            elif isinstance(row, NewRun):
                rows.children.append(row)
            elif isinstance(row, NewWait):
                rows.waits[row.cmd] = row
                rows.ended_waits.pop(row.cmd, None)
            elif isinstance(row, EndedWait):
                rows.waits.pop(row.cmd, None)
                rows.ended_waits[row.cmd] = None
            else:
                rows.first_seq = number
        return rows

    def settled(self, durable: int) -> list[NewRun]:
        """The events up to `durable` are in the database: forget their rows; the children among them."""
        children: list[NewRun] = []
        while self._rows and self._rows[0][0] <= durable:
            _, row = self._rows.popleft()
            if isinstance(row, NewRun):
                children.append(row)
        self.children -= len(children)
        return children

    def clear(self) -> None:
        """Nothing will be sent."""
        self._rows.clear()
        self.children = 0
