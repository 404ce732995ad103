"""What a run waits for by the clock: timers, waits with a time-out, its deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from durable.model import history
from durable.model.commands import StartChild, StartTimer, StartWait

Timed: TypeAlias = StartTimer | StartWait | StartChild


class Timetable:
    """By command number; times in microseconds of the database's clock."""

    __slots__ = ("deadline", "listed", "timed", "unsure", "waits")

    def __init__(self) -> None:
        self.timed: dict[int, Timed] = {}
        """What reports back when it falls due."""
        self.waits: dict[int, StartWait] = {}
        """Open waits, with or without a time-out."""
        self.listed: dict[int, int] = {}
        """Timers and waits that are written down in the history, and where."""
        self.unsure: set[int] = set()
        """Waits with a time-out for which something may be kept: their time is not up before it was looked for."""
        self.deadline: int | None = None

    def add(self, command: Timed) -> None:
        """It is under way; one of the same number is replaced."""
        if isinstance(command, StartWait):
            self.waits[command.cmd] = command
        if command.due is not None:
            self.timed[command.cmd] = command

    def drop(self, cmd: int) -> bool:
        """It is over; whether it was written down."""
        self.timed.pop(cmd, None)
        self.waits.pop(cmd, None)
        self.unsure.discard(cmd)
        return self.listed.pop(cmd, None) is not None

    def fallen_due(self, now: int) -> list[Timed]:
        """What is due, in its order."""
        due = [
            timed
            for cmd, timed in self.timed.items()
            if (timed.due or 0) <= now and cmd not in self.unsure
        ]
        return sorted(due, key=lambda timed: (timed.due or 0, timed.cmd))

    @property
    def next_due(self) -> int | None:
        """When something is due next."""
        dues = [
            timed.due
            for cmd, timed in self.timed.items()
            if timed.due is not None and cmd not in self.unsure
        ]
        if self.deadline is not None:
            dues.append(self.deadline)
        return min(dues, default=None)

    def unlisted(self) -> list[StartTimer | StartWait]:
        """What a run that parks has yet to write down, in the order in which it was asked for."""
        found: dict[int, StartTimer | StartWait] = {
            cmd: timed for cmd, timed in self.timed.items() if isinstance(timed, StartTimer)
        }
        found |= self.waits
        return [command for cmd, command in sorted(found.items()) if cmd not in self.listed]

    def clear(self) -> None:
        """Nothing is waited for any more but the deadline."""
        self.timed.clear()
        self.waits.clear()
        self.listed.clear()
        self.unsure.clear()


def due_event(timed: Timed, at: int) -> history.Event:
    """What enters the history when it falls due."""
    return _DUE_EVENTS[type(timed)](timed, at)


def _timer_fired(timed: Timed, at: int) -> history.Event:
    return history.TimerFired(at, timed.cmd, timed.name, timed.due or at)


def _wait_timed_out(timed: Timed, at: int) -> history.Event:
    kind = timed.kind if isinstance(timed, StartWait) else "child"
    return history.WaitTimedOut(at, timed.cmd, timed.name, kind)


_DUE_EVENTS: Mapping[type[Timed], Callable[[Timed, int], history.Event]] = {
    StartTimer: _timer_fired,
    StartWait: _wait_timed_out,
    StartChild: _wait_timed_out,
}


def listing(command: StartTimer | StartWait, at: int) -> history.Event:
    """The event that writes down what a run sleeps for."""
    site = str(command.site)
    if isinstance(command, StartTimer):
        return history.TimerStarted(at, command.cmd, command.name, command.due, site)
    if command.kind == "input":
        assert command.form is not None
        return history.InputRequested(
            at, command.cmd, command.name, command.form, command.due, site
        )
    return history.WaitStarted(
        at,
        command.cmd,
        command.name,
        command.kind,
        list(command.names),
        command.mode,
        command.key,
        command.due,
        site,
    )
