"""`explore`: a workflow under every disturbance that a schedule can name, the fewest first.

The undisturbed run says which moments there are. Then each disturbance is tried by itself, then pairs of them,
then up to five together, until there are none left or `max_cases` is reached; so the first schedule that fails is a smallest one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from durable.model.runnable import Runnable
from durable.model.steps import Step
from durable.telling import count
from durable_testing.pasting import source_of_test
from durable_testing.playing import Played, Subject, play
from durable_testing.replaying import Report
from durable_testing.session import SESSION

if TYPE_CHECKING:
    from durable.client import Handle
    from durable.model.records import RunDetail

MAX_DISTURBANCES: Final = 5
"""Disturbances of one case: a run that loses its worker more often without progress is blocked, as it should be."""
R = TypeVar("R")
T = TypeVar("T")


class Ledger(Protocol):
    """Where fakes book what they did: a list, a dict, a set."""

    def clear(self) -> object:
        """Forget everything."""
        ...

    def __iter__(self) -> Iterator[object]: ...


@dataclass(frozen=True, slots=True)
class Exploration(Report):
    """What came of exploring a workflow."""

    tried: int
    """Schedules that were played, the undisturbed run among them."""
    pruned: int
    """Schedules left out because they begin with one that went, event for event, as another had gone."""
    left: int
    """Schedules of as many disturbances as the last ones tried that `max_cases` had no room for."""
    seed: int
    schedule: tuple[str, ...] | None
    """The smallest schedule that fails; None: none does."""
    problem: str | None
    """What is wrong there."""
    test: str | None
    """The source of a test that plays it."""


def explore(
    workflow: Runnable[T, R],
    input: T,
    /,
    *,
    mocks: Mapping[Step[..., Any], Any] | None = None,
    check: Callable[[RunDetail], object] | None = None,
    max_cases: int = 1000,
    user: Callable[[Handle[R]], Awaitable[object]] | None = None,
    workflows: Iterable[Runnable[Any, Any]] = (),
    ledger: Ledger | None = None,
    same_result: bool = True,
    seed: int = 0,
    only: Sequence[str] | None = None,
) -> Exploration:
    """Try a workflow under every crash, order, duplicate, delay and cancel; what breaks it, if anything does.

    Each case is a run from its start in a fresh `Environment`, on the real engine, worker and store. The worker
    dies before and after each operation on the database, or its answer is lost; what is under way at once comes
    in every order; steps are late, or only their answers are, and time-outs come first; users act twice; the run is
    cancelled wherever it stands. At most `max_cases` schedules of such disturbances are played.

    `mocks` gives steps an outcome: an exception, a function that is called instead, or a value. `user` does
    what users do: with the handle of the run it sends events, answers and requests, each as soon as its turn
    comes. `workflows` are those that are started as children. `ledger` is where fakes book their effects: it is cleared
    before each case. `check` is called with the run when it has ended, and raises where something is wrong.

    Of every case it is asked that the run ends, that a replay goes the way of its history, that no recorded step
    ran again, and that what a failed or cancelled run did is undone. Crashes, orders and duplicates may change
    neither the result nor what the ledger holds, unless `same_result` is false. `seed` decides which pairs come first,
    and whatever is left to chance in a run; the same seed gives the same report. `only` plays one schedule.

    Plain code calls it, and so may a coroutine. `ValueError` for a schedule in `only` that does not come about, and
    for a `max_cases` below 1; `TypeError` for a `ledger` that cannot be cleared or looked through.
    """
    if max_cases < 1:
        message = f"explore(max_cases=) must be at least 1, not {max_cases}"
        raise ValueError(message)
    if ledger is not None:
        _check_ledger(ledger)
    subject = Subject(
        workflow,
        input,
        mocks or {},
        check,
        user,
        list(workflows),
        ledger,
        same_result,
        seed or SESSION.seed,
    )
    search = _Search(subject, max_cases)
    return _outside_of_loops(
        lambda: search.replay(tuple(only)) if only is not None else search.run()
    )


def _check_ledger(ledger: object) -> None:
    """Raise `TypeError` for one of which nobody could see what it holds."""
    wanted = ("clear", "__iter__")
    missing = [f"no {name}()" for name in wanted if not callable(getattr(ledger, name, None))]
    if missing:
        message = (
            "explore(ledger=) must be a list, dict or set, or something that can be cleared and looked through: "
            f"{type(ledger).__name__} has {' and '.join(missing)}"
        )
        raise TypeError(message)


def _outside_of_loops(work: Callable[[], Exploration]) -> Exploration:
    """Each case has an event loop of its own, which cannot be inside of another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, "durable-explore") as thread:
        return thread.submit(work).result()


class _Search:
    """Plays schedules, the shorter ones first."""

    def __init__(self, subject: Subject, max_cases: int) -> None:
        self._subject = subject
        self._max = max_cases
        self._random = Random(subject.seed)
        self._seen: set[tuple[object, ...]] = set()
        self._tried: list[int] = []
        """How many schedules of each length were played."""
        self._pruned = 0
        self._left = 0

    def run(self) -> Exploration:
        """Play schedules until one fails."""
        calm = self._play((), None)
        if calm.problem is not None:
            return self._failed(calm)
        parents = [calm]
        while parents and sum(self._tried) < self._max and len(self._tried) <= MAX_DISTURBANCES:
            played: list[Played] = []
            for schedule in self._chosen(parents):
                case = self._play(schedule, calm)
                if case.problem is not None:
                    return self._failed(case)
                if case.trace in self._seen:  # whatever may follow is the same, too
                    self._pruned += len(case.longer)
                else:
                    self._seen.add(case.trace)
                    played.append(case)
            parents = played
        return self._passed()

    def replay(self, schedule: tuple[str, ...]) -> Exploration:
        """Play one schedule, after the undisturbed run."""
        calm = self._play((), None)
        if calm.problem is not None or not schedule:
            return self._told(calm)
        case = self._play(schedule, calm)
        if case.missed:
            message = (
                f"there is no moment for {case.missed[0]!r} in {self._subject.workflow.name}: has it changed since the "
                "schedule was found? explore it again"
            )
            raise ValueError(message)
        return self._told(case)

    def _told(self, case: Played) -> Exploration:
        return self._passed() if case.problem is None else self._failed(case)

    def _play(self, schedule: tuple[str, ...], calm: Played | None) -> Played:
        while len(self._tried) <= len(schedule):
            self._tried.append(0)
        self._tried[len(schedule)] += 1
        return play(self._subject, schedule, None if calm is None else calm.traces)

    def _chosen(self, parents: Sequence[Played]) -> Sequence[tuple[str, ...]]:
        """Schedules of one more disturbance, as many as may be played; in the order of their moments."""
        found = [schedule for parent in parents for schedule in parent.longer]
        room = self._max - sum(self._tried)
        if len(found) <= room:
            return found
        self._left = len(found) - room
        places = sorted(self._random.sample(range(len(found)), room))
        return [found[place] for place in places]

    # -- what is told

    def _counts(self) -> str:
        words = ("undisturbed", "with one disturbance", "with two", "with three")
        parts = [
            f"{number:,} {words[length] if length < len(words) else f'with {length}'}"
            for length, number in enumerate(self._tried)
            if number
        ]
        left = f", {self._left:,} more with {len(self._tried) - 1} not tried" if self._left else ""
        return (
            f"{count(sum(self._tried), 'schedule')} tried ({', '.join(parts)}), {self._pruned:,} pruned{left}, "
            f"seed {self._subject.seed}"
        )

    def _passed(self) -> Exploration:
        told = f"{self._subject.workflow.name}: nothing broke it, {self._counts()}"
        return self._report(told, None, None)

    def _failed(self, case: Played) -> Exploration:
        test = source_of_test(self._subject, case.schedule, case.problem or "")
        where = f"at {' and '.join(case.schedule)}" if case.schedule else "undisturbed"
        told = "\n".join(
            [
                f"{self._subject.workflow.name} breaks {where}",
                f"  {case.problem}",
                f"  {self._counts()}",
                "",
                case.timeline,
                "",
                "as a test:",
                "",
                test,
            ]
        )
        return self._report(told, case, test)

    def _report(self, told: str, case: Played | None, test: str | None) -> Exploration:
        return Exploration(
            ok=case is None,
            explanation=told,
            tried=sum(self._tried),
            pruned=self._pruned,
            left=self._left,
            seed=self._subject.seed,
            schedule=None if case is None else case.schedule,
            problem=None if case is None else case.problem,
            test=test,
        )
