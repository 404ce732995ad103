"""The rest of the store against its model: orders, control messages, waits, answers, publications."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from durable.model.lifecycle import HOLD_BLOCKED, HOLD_PAUSED
from durable.model.messages import CANCEL as CANCELLED
from durable.model.messages import (
    PAUSE,
    RESUME,
    follow_message,
    input_message,
    published_message,
)
from durable.model.rows import (
    Act,
    Answer,
    Commit,
    Delivery,
    NewWait,
    OutMessage,
    Publication,
    Subscription,
    WaitFilter,
    WaitKind,
)
from durable.model.wire import EventRow
from tests.storage.conformance.machine import IDS, RARELY, Run, StoreMachine
from tests.storage.conformance.world import CANCEL, START, TERMINATED, ended, event

COMMANDS = st.integers(1, 3)
KEYS = st.sampled_from("kl")
EVENTS = st.sampled_from(["paid", "refused"])
PAUSED = replace(event(0, "Paused"), cmd=None)
RESUMED = replace(event(0, "Resumed"), cmd=None)
TTLS = st.sampled_from([-1.0, 0.0, 4.0, 20.0])


@dataclass
class Kept:
    """A publication as the model keeps it."""

    number: int
    key: str
    name: str
    until: int
    idempotency_key: str | None
    reached: int = 0


class FullMachine(StoreMachine):
    """Everything that others than workers do to runs, beside what workers do."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self.tokens = 0

    # -- what commits bring

    def _enrich(self, commit: Commit, data: st.DataObject) -> Commit:
        if commit.act is Act.FINISH:
            return commit
        says = commit.seq + min(1, len(commit.events))
        waits = st.builds(
            NewWait,
            cmd=COMMANDS,
            kind=st.sampled_from([WaitKind.EVENT, WaitKind.INPUT]),
            names=st.sampled_from([("paid",), ("paid", "refused")]),
            seq=st.just(says),
            key=st.sampled_from([None, "k", "k", "l"]),
        )
        letters = st.builds(OutMessage, st.sampled_from("abcd"), st.just("letter"), st.just(b""))
        return replace(
            commit,
            waits=data.draw(st.lists(waits, max_size=2)),
            ended_waits=data.draw(st.lists(COMMANDS, max_size=2)),
            messages=[*commit.messages, *data.draw(st.lists(letters, max_size=1))],
            first_seq=says if commit.events and data.draw(RARELY) else None,
        )

    # -- children, followers, control

    @precondition(lambda self: bool(self.model))
    @rule(id=IDS, data=st.data(), cmd=COMMANDS, abandoned=RARELY)
    def start_child(self, id: str, data: st.DataObject, cmd: int, abandoned: bool) -> None:
        parent = self._some(data)
        options = {"parent_key": parent.key, "parent_cmd": cmd, "abandoned": abandoned}
        started = self.do(self.world.start(id, **options))
        if started.created:
            run = self.model[id] = Run(id, started.key, 0, self.now())
            run.parent, run.parent_cmd, run.abandoned = parent, cmd, abandoned
        found = self.do(self.store.children(parent.key, [1, 2, 3]))
        children = [run for run in self.model.values() if run.parent is parent]
        newest = sorted(children, key=lambda run: run.key)
        assert found == {run.parent_cmd: run.id for run in newest}

    @rule(id=IDS)
    def say_what_must_be_heard(self, id: str) -> None:
        """I18: a run does not end before it has read it."""
        self._deliver_control(id, CANCELLED)

    @precondition(lambda self: bool(self.model))
    @rule(id=IDS, data=st.data(), cmd=COMMANDS)
    def follow(self, id: str, data: st.DataObject, cmd: int) -> None:
        self._deliver_control(id, follow_message(self._some(data).key, cmd))

    def _deliver_control(self, id: str, name: str) -> None:
        (answer,) = self.do(self.store.deliver([Delivery(id, name, b"\x01", control=True)]))
        run = self.model.get(id)
        number = run.receive(name, self.now(), control=True) if run and run.open else None
        assert answer.number == number

    def _some(self, data: st.DataObject) -> Run:
        return data.draw(st.sampled_from(list(self.model.values())))

    # -- orders

    @rule(id=st.sampled_from("bd"))
    def terminate(self, id: str) -> None:
        """I18: the end is reached once, and told to everybody whom it concerns."""
        status = self.do(self.store.terminate(id, TERMINATED, CANCEL))
        run = self.model.get(id)
        if run is None:
            assert status is None
        elif not run.open:
            assert status == run.status
        else:
            told = self._listeners(run)
            run.append(1, "RunTerminated")
            run.end("terminated")
            run.epoch += 1
            assert status == "terminated"
            self._tell_of_the_end(run, told)

    def _listeners(self, run: Run) -> list[tuple[int, int]]:
        told = set(run.followers)
        for name in run.unread:
            if name.startswith("~follow:"):
                _, key, cmd = name.split(":")
                told.add((int(key), int(cmd)))
        if run.parent is not None:
            told.add((run.parent.key, run.parent_cmd))
        return sorted(told)

    def _tell_of_the_end(self, run: Run, told: list[tuple[int, int]]) -> None:
        for key, cmd in told:
            if self._by_key(key).open:
                self._by_key(key).receive(ended(cmd), self.now())
        for child in self.model.values():
            if child.parent is run and child.open and not child.abandoned:
                child.receive(CANCELLED, self.now(), control=True)

    @rule(id=IDS)
    def pause(self, id: str) -> None:
        """I30: held at once where nobody owns it, else asked."""
        status = self.do(self.store.pause(id, PAUSED))
        run = self.model.get(id)
        if run is not None and run.open and not run.hold:
            if run.owner is not None:
                run.receive(PAUSE, self.now())
            else:
                run.append(1, "Paused")
                run.hold = HOLD_PAUSED
        assert status == (run and run.shown)

    @rule(id=IDS)
    def resume(self, id: str) -> None:
        status = self.do(self.store.resume(id, RESUMED))
        run = self.model.get(id)
        if run is not None and run.open and run.hold != HOLD_BLOCKED:
            if run.hold:
                run.append(1, "Resumed")
                run.hold = 0
                run.wake(self.now())
                if PAUSE in run.unread:
                    run.receive(RESUME, self.now())
            elif run.owner is not None or PAUSE in run.unread:
                run.receive(RESUME, self.now())
        assert status == (run and run.shown)

    # -- waits

    @precondition(lambda self: any(run.waits for run in self.model.values()))
    @rule(data=st.data(), cmd=COMMANDS, again=RARELY)
    def answer(self, data: st.DataObject, cmd: int, again: bool) -> None:
        """The first answer is taken; the same one sent again is still this one."""
        run = data.draw(st.sampled_from([run for run in self.model.values() if run.waits]))
        self.tokens += not again
        token = f"t{self.tokens}"
        name = input_message(cmd, "n")
        answered = self.do(
            self.store.answer(Answer(run.id, cmd, name, b"\x01", token, token, START))
        )
        wait = run.waits.get(cmd)
        asked = wait is not None and wait.kind is WaitKind.INPUT
        first = run.answered.get(cmd) if asked else None
        if token in run.tokens:
            assert answered.accepted
        elif asked and first is None:
            assert answered.accepted
            run.tokens.add(token)
            run.answered[cmd] = token
            run.receive(name, self.now())
        else:
            assert (answered.accepted, answered.pending, answered.by) == (False, asked, first)

    @rule(key=KEYS, name=EVENTS, idem=st.sampled_from([None, None, "i"]), ttl=TTLS)
    def publish(self, key: str, name: str, idem: str | None, ttl: float) -> None:
        """Every open run that waits gets it, each once."""
        until = self.now.after(ttl)
        publication = Publication(name, key, b"\x01", until, idem)
        (reached,) = self.do(self.store.publish([publication]))
        known = [
            kept
            for kept in self._alive(key, [name])
            if idem is not None and kept.idempotency_key == idem
        ]
        if not known:
            known = [Kept(len(self.kept) + 1, key, name, until, idem)]
            self.kept += known
            for run in self.model.values():
                if any(wait.key == key and name in wait.names for wait in run.waits.values()):
                    self._hand_out(run, known[0])
        assert reached == known[0].reached

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), key=KEYS, names=st.lists(EVENTS, min_size=1, max_size=2, unique=True))
    def subscribe(self, data: st.DataObject, key: str, names: list[str]) -> None:
        """What is kept, and the run has not had, in the order of the publications."""
        run = self._some(data)
        self.do(self.store.subscribe([Subscription(run.key, names, key)]))
        for kept in self._alive(key, names):
            self._hand_out(run, kept)

    def _alive(self, key: str, names: list[str]) -> list[Kept]:
        return [k for k in self.kept if k.key == key and k.name in names and k.until >= self.now()]

    def _hand_out(self, run: Run, kept: Kept) -> None:
        if run.open and kept.number not in run.had:
            run.had.add(kept.number)
            run.receive(published_message(kept.number, kept.key, kept.name), self.now())
            kept.reached += 1

    # -- what must hold after every step

    @invariant()
    def open_waits_are_what_the_model_says(self) -> None:
        rows = self.do(self.store.waits(WaitFilter(tuple(WaitKind), limit=1000)))
        assert [row.place for row in rows] == sorted(row.place for row in rows)
        found = {(row.run_id, row.cmd): self._wait_of(row, row.event) for row in rows}
        assert found == {
            (run.id, cmd): (wait.kind, tuple(wait.names), wait.key, wait.seq)
            for run in self.model.values()
            for cmd, wait in run.waits.items()
            if cmd not in run.answered
        }

    def _wait_of(self, row: Any, said: EventRow) -> tuple[Any, ...]:
        return row.kind, tuple(row.names), row.key, said.seq
