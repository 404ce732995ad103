"""What must hold of everything once all runs have ended: one function for each invariant."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from durable.model import history
from durable.model.history import FROM_INBOX
from durable.model.payload import ANY, fingerprint
from durable.model.wire import EventRow, decode_event
from durable.worker.execution import Execution
from tests.acceptance.crash_points import check_children, check_messages
from tests.campaigns.faulty_runs_programs import make, unmake
from tests.simulation.programs import FIRST, SECOND, SHARED, program, stubborn
from tests.simulation.watch import GENERATIONS, Broken, Row
from tests.worker.one_run import Host

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.patches import Lines
    from tests.simulation.users import Call, Users

_EXPECTED: Final = ("lost its lease: its runs go on elsewhere", "it is looked at again")
"""What a worker says aloud when it has met a fault."""
_STEPS: Final = (
    history.StepCompleted,
    history.StepFailed,
    history.CompensationCompleted,
    history.CompensationFailed,
)
_FAILURES: Final = (history.StepFailed, history.CompensationFailed)
_BY_OTHERS: Final = frozenset(
    kind.code
    for kind in (
        history.RunTerminated,
        history.Paused,
        history.Resumed,
        history.Blocked,
        history.Unblocked,
    )
)
_FAILED: Final = frozenset({"failed", "compensated", "compensation_failed", "cancelled"})


@dataclass(slots=True)
class Case:
    """All there is to know."""

    cluster: Cluster
    users: Users
    lines: Lines
    rows: list[Row]
    events: dict[int, list[EventRow]]
    decoded: dict[int, list[Any]]

    def of(self, run_id: str) -> list[Row]:
        """The runs that have or had this id."""
        return [row for row in self.rows if row.id.partition("~")[0] == run_id]

    def calls(self, *verbs: str) -> list[Call]:
        return [call for call in self.users.calls if call.act.verb in verbs]


def judge(cluster: Cluster, users: Users, lines: Lines) -> None:
    """Everything, the cheap things first."""
    watch = cluster.watch
    watch.check()
    rows = list(watch.rows.values())
    decoded = {row.key: [decode_event(event) for event in watch.events[row.key]] for row in rows}
    cluster.loop.kernel.version = max(cluster.versions)
    case = Case(cluster, users, lines, rows, watch.events, decoded)
    for check in CHECKS:
        try:
            check(case)
        except Broken:
            raise
        except AssertionError as error:
            raise Broken(check.__name__.partition("_")[0].upper(), str(error)) from error


def i24_no_loop_has_failed(case: Case) -> None:
    for record in case.lines.records:
        if not record.getMessage().endswith(_EXPECTED):
            raise Broken("I24", f"{record.name} said: {record.getMessage()} {record.exc_info}")
    for context in case.cluster.loop.unhandled:
        raise Broken("I24", f"nobody has handled {context}")


def i5_clients_are_told_what_they_know(case: Case) -> None:
    for text in case.users.unexpected:
        raise Broken("I5", text)


def i1_nothing_was_rewritten(case: Case) -> None:
    database = case.cluster.database
    text = (
        "SELECT seq, type, at, cmd, name, data FROM durable_history WHERE run_key = ? ORDER BY seq"
    )
    for row in case.rows:
        found = [EventRow(*each) for each in database.rows(text, (row.key,))]
        assert found == case.events[row.key], f"the history of {row.id} was rewritten"


def i4_what_was_started_is_there(case: Case) -> None:
    for call in case.calls("start", "start eagerly", "restart"):
        if call.done:
            assert case.of(call.act.run), f"{call.act.run} was started and is not there"


def i6_an_id_is_created_once(case: Case) -> None:
    created = Counter(
        call.act.run for call in case.calls("start", "start eagerly") if call.done and call.value
    )
    restarted = {call.act.run for call in case.calls("restart")}
    for run_id, count in created.items():
        most = 1 + (len(case.of(run_id)) if run_id in restarted else 0)
        assert count <= most, f"{count} starts of {run_id} were told that they created it"
        if run_id not in restarted:
            assert len(case.of(run_id)) == 1, f"there are several runs {run_id}"


def i7_attempts_are_bounded(case: Case) -> None:
    """An attempt begins again only where a fault has hit its run."""
    watch = case.cluster.watch
    calm = case.cluster.menu.calm and not watch.figures["deaths"]
    faults = sum(case.cluster.menu.fired.values())
    begun = Counter((one.run, one.cmd, one.attempt) for one in watch.begun)
    for (key, cmd, attempt), count in begun.items():
        most = 1 if calm else 1 + watch.losses[key] + faults
        assert count <= most, f"attempt {attempt} of step {cmd} of run {key} began {count} times"


def i7_what_began_is_what_the_history_says(case: Case) -> None:
    """Nothing began under a number that the history gives to something else."""
    recorded = {
        (row.key, event.cmd): (event.name, event.fingerprint)
        for row in case.rows
        for event in case.decoded[row.key]
        if isinstance(event, _STEPS)
    }
    for one in case.cluster.watch.begun:
        said = recorded.get((one.run, one.cmd))
        if said is not None and said != (one.name, one.fingerprint):
            assert len(case.cluster.versions) > 1, f"{one} began, and the history says {said}"


def i7_attempts_are_numbered(case: Case) -> None:
    """The attempts of a step in the history are 1, 2, 3, ... and nothing comes after its completion."""
    for row in case.rows:
        attempts: dict[int, int] = defaultdict(int)
        for event in case.decoded[row.key]:
            if isinstance(event, _STEPS):
                assert event.attempt == attempts[event.cmd] + 1, (row.id, event)
                attempts[event.cmd] = event.attempt


def i8_i9_a_replay_ends_alike(case: Case) -> None:
    """The newest generation, replayed without its end, comes to that end."""
    for row in case.rows:
        last = case.decoded[row.key][-1]
        if isinstance(last, history.RunTerminated) or len(case.cluster.versions) > 1:
            continue
        events = case.events[row.key]
        first = max((n for n, event in enumerate(events) if event.type in GENERATIONS), default=0)
        run_id = row.id.partition("~")[0]  # what its code knew it by, before another took its place
        code = stubborn if case.decoded[row.key][0].name == stubborn.name else program
        execution = Execution(Host(), code, row.key, run_id, 1, "default")  # type: ignore[arg-type]
        execution.replay(events[first:-1])
        blocked, end = execution.blocked, execution._undone
        execution.discard()
        assert blocked is None, f"{row.id}: {blocked}"
        assert end is not None, f"{row.id} ended with {last}, its replay does not end"
        if isinstance(last, history.RunCompleted):
            assert getattr(end, "result", None) == last.result, f"{row.id}: {end} is not {last}"


def i11_code_that_did_not_change_is_never_blocked(case: Case) -> None:
    if len(case.cluster.versions) > 1:
        return
    for row in case.rows:
        for event in case.decoded[row.key]:
            if isinstance(event, history.Blocked):
                assert "was lost more than" in event.reason, f"{row.id}: {event.reason}"


def i13_timers_fire_when_they_are_due(case: Case) -> None:
    for row in case.rows:
        fired: set[int] = set()
        for event in case.decoded[row.key]:
            if isinstance(event, history.TimerFired):
                assert event.at >= event.due, f"{row.id}: {event} is early"
                assert event.cmd not in fired, f"{row.id}: {event} again"
                fired.add(event.cmd)


def i13_attempts_wait_for_their_time(case: Case) -> None:
    """The one after a failure is due when its policy says, whichever worker makes it."""
    watch = case.cluster.watch
    pauses = {(one.run, one.cmd, one.attempt): one.pause for one in watch.begun}
    for row in case.rows:
        for event in case.decoded[row.key]:
            if isinstance(event, _FAILURES) and event.retry_at is not None:
                watch.figures["retries"] += 1
                pause = pauses[row.key, event.cmd, event.attempt]
                assert event.retry_at >= event.at + round(pause), (
                    f"{event} waits for less than {pause}"
                )
                due = watch.due.get((row.key, event.cmd, event.attempt + 1), event.retry_at)
                assert due >= event.retry_at, f"the attempt after {event} was made at {due}"


def i10_time_never_goes_back(case: Case) -> None:
    """What others append bears the time of their own clocks."""
    for row in case.rows:
        times = [event.at for event in case.events[row.key] if event.type not in _BY_OTHERS]
        assert times == sorted(times), f"the time of {row.id} goes back: {case.decoded[row.key]}"


def i15_messages_enter_history_once(case: Case) -> None:
    for row in case.rows:
        check_messages(case.decoded[row.key], row.id)


def i15_what_was_accepted_is_read(case: Case) -> None:
    """Each message under its number, or the run had ended."""
    for (key, number), sent in case.cluster.watch.sent.items():
        row = case.cluster.watch.rows[key]
        read = [
            e
            for e in case.decoded[key]
            if getattr(e, "number", 0) == number and type(e).code in FROM_INBOX
        ]
        if not read:
            assert row.consumed < number, f"message {number} of {row.id} was read and is nowhere"
            assert row.final, f"message {number} of {row.id} was never read"
            assert not sent.control or row.status == "terminated", f"{row.id} did not hear {sent}"
            continue
        (event,) = read
        if not sent.name.startswith("~"):
            assert (event.name, event.payload) == (sent.name, sent.data), (
                f"{row.id}: {event}, {sent}"
            )


def i15_what_runs_send_is_sent_once(case: Case) -> None:
    """Each event that a program sends bears a number of its own."""
    if len(case.cluster.versions) > 1:  # what was under way may be undone by other code
        return
    numbers: dict[tuple[int, int], int] = {}
    for (key, number), sent in case.cluster.watch.sent.items():
        if sent.name in {"a", "b"} and (sent.idempotency_key or "").startswith("~sent:"):
            value = ANY.decode(sent.data, "payload")
            first = numbers.setdefault((key, value), number)
            assert first == number, f"{value} was sent to run {key} as number {first} and {number}"


def i15_senders_keep_their_order(case: Case) -> None:
    numbers: dict[int, tuple[int, int]] = {}
    for (key, number), sent in case.cluster.watch.sent.items():
        by_run = (sent.idempotency_key or "").startswith("~sent:")
        if not sent.name.startswith("~") and not by_run:  # a run's may hold any number
            value = ANY.decode(sent.data, "payload")
            if isinstance(value, int):
                numbers[value] = key, number
    sends = [call for call in case.calls("send") if call.done]
    for call in sends:
        assert call.number in numbers, f"event {call.number} was accepted and is not there"
    for one in sends:
        for other in sends:
            if one.act.user == other.act.user and one.ended is not None and one.ended < other.began:
                first, second = numbers[one.number], numbers[other.number]
                assert first[0] != second[0] or first[1] < second[1], (one, other, first, second)


def i18_who_terminated_a_run_was_right(case: Case) -> None:
    for call in case.calls("terminate"):
        if call.done:
            found = [row.status for row in case.of(call.act.run)]
            assert "terminated" in found, f"{call.act.run} was terminated, and is {found}"


def i18_who_was_cancelled_is_not_tried_again(case: Case) -> None:
    for row in case.rows:
        kinds = [type(event) for event in case.decoded[row.key]]
        if history.CancelRequested in kinds:
            after = kinds[kinds.index(history.CancelRequested) :]
            assert history.RunRetried not in after, f"{row.id} was cancelled and tried again"


def i18_results_are_those_of_the_history(case: Case) -> None:
    for call in case.calls("result"):
        if call.done:
            ends = [case.decoded[row.key][-1] for row in case.of(call.act.run)]
            results = [
                ANY.decode(e.result, "") for e in ends if isinstance(e, history.RunCompleted)
            ]
            assert call.value in results, f"{call.act.run} gave {call.value}, not {results}"


def i18_requests_are_answered_right(case: Case) -> None:
    for call in case.calls("request"):
        if call.done:
            assert call.value == call.number + 1, f"request {call.number} was answered {call.value}"


def i19_children_are_those_that_were_started(case: Case) -> None:
    """One that takes the place of another is no part of its parent's transaction: a terminated parent owes it."""
    ids = {row.id for row in case.rows}
    owing = {row.key for row in case.rows if row.status == "terminated" and SHARED not in ids}
    told = {
        key: [e for e in events if key not in owing or getattr(e, "child_id", None) != SHARED]
        for key, events in case.decoded.items()
    }
    check_children(case.rows, told)  # type: ignore[arg-type]


def i19_children_hear_of_the_end_of_their_parent(case: Case) -> None:
    """In the transaction that ends it, unless they were to be left alone."""
    ended = case.cluster.watch.ended
    for row in case.rows:
        if row.parent_key is None or row.id.partition("~")[0] == SHARED:
            continue
        asked = [e for e in case.decoded[row.key] if isinstance(e, history.CancelRequested)]
        if row.abandoned:
            told = [event for event in asked if (event.reason or "").startswith("its parent")]
            assert not told, f"{row.id} was to be left alone: {told}"
        elif ended[row.parent_key] < ended[row.key]:
            knows = asked or row.control_head > row.consumed or row.status == "terminated"
            assert knows, f"{row.id} was not told that run {row.parent_key} has ended"


def i20_what_failed_is_undone(case: Case) -> None:
    for row in case.rows:
        events = case.decoded[row.key]
        made = sum(isinstance(e, history.StepCompleted) and e.name == "make" for e in events)
        undone = [e.cmd for e in events if isinstance(e, history.CompensationCompleted)]
        assert len(undone) == len(set(undone)) <= made, f"{row.id}: {made} made, {undone} undone"
        if row.status in _FAILED:
            assert len(undone) == made, f"{row.id} is {row.status}: {made} made, {undone} undone"


def i20_the_last_is_undone_first(case: Case) -> None:
    """Of two things that a saga made one after the other."""
    for row in case.rows:
        events = case.decoded[row.key]
        undone = {
            event.fingerprint: place
            for place, event in enumerate(events)
            if isinstance(event, history.CompensationCompleted)
        }
        for event in events:
            if isinstance(event, history.StepCompleted) and event.name == make.name:
                name = make.result.decode(event.result, make.name)
                second = undone.get(_mark(name))
                if name.endswith(SECOND) and second is not None:
                    first = undone.get(_mark(name.removesuffix(SECOND) + FIRST), len(events))
                    assert second < first, f"{row.id}: {name} was undone after what came before it"


def _mark(name: str) -> int:
    return fingerprint(unmake.arguments.encode((name,), {}, unmake.name))


def i23_nothing_is_left_of_what_ended(case: Case) -> None:
    waits = case.cluster.database.rows("SELECT * FROM durable_waits")
    assert not waits, f"waits of runs that have ended: {waits}"


def i28_orderly_stops_end_in_time(case: Case) -> None:
    lease = case.cluster.lease
    for process, seconds in case.cluster.watch.stops:
        stalled = sum(end - begin for begin, end in process.stalls) / 1e6
        most = 2.0 + max(1.0, lease) + lease + 2.0 + stalled
        assert seconds <= most, f"{process} took {seconds:.1f} s to stop, not {most:.1f}"


CHECKS: Final = (
    i24_no_loop_has_failed,
    i5_clients_are_told_what_they_know,
    i1_nothing_was_rewritten,
    i4_what_was_started_is_there,
    i6_an_id_is_created_once,
    i7_attempts_are_bounded,
    i7_what_began_is_what_the_history_says,
    i7_attempts_are_numbered,
    i8_i9_a_replay_ends_alike,
    i10_time_never_goes_back,
    i11_code_that_did_not_change_is_never_blocked,
    i13_timers_fire_when_they_are_due,
    i13_attempts_wait_for_their_time,
    i15_messages_enter_history_once,
    i15_what_was_accepted_is_read,
    i15_what_runs_send_is_sent_once,
    i15_senders_keep_their_order,
    i18_who_terminated_a_run_was_right,
    i18_who_was_cancelled_is_not_tried_again,
    i18_results_are_those_of_the_history,
    i18_requests_are_answered_right,
    i19_children_are_those_that_were_started,
    i19_children_hear_of_the_end_of_their_parent,
    i20_what_failed_is_undone,
    i20_the_last_is_undone_first,
    i23_nothing_is_left_of_what_ended,
    i28_orderly_stops_end_in_time,
)
