"""Questions to people: what is asked, which answers fit, and what comes of those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from durable.clock import SECOND
from durable.engine.context import Context
from durable.model import history
from durable.model.definition import Workflow, workflow
from durable.model.forms import InputForm, unpack_form
from durable.model.payload import JSON
from durable.model.wire import decode_event
from tests.engine.driver import (
    Answered,
    Driver,
    EndedWait,
    Recording,
    Sent,
    failure,
    live,
    result,
    same_on_replay,
)


class Order(BaseModel):
    id: str
    amount: int


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def of(body: Callable[[Context], Any]) -> Workflow[None, Any]:
    @workflow(name="inputs")
    async def inputs(ctx: Context) -> Any:
        return await body(ctx)

    return inputs


def run(body: Callable[[Context], Any], *sends: Sent) -> Any:
    found = [result(of(body), sends=sends, park=park) for park in (0, 1)]
    assert found[0] == found[1]
    return found[0]


def asked(recording: Recording) -> list[InputForm]:
    """The forms in a history."""
    events = map(decode_event, recording.rows)
    return [unpack_form(e.form) for e in events if isinstance(e, history.InputRequested)]


def answered(verb: Callable[[Context], Any], *answers: Any) -> Any:
    """What a verb gives when somebody answers so; its value as text, to be stored by a workflow."""

    async def body(ctx: Context) -> str:
        return repr(await verb(ctx))

    return run(body, *(Answered(n + 1, "q", answer) for n, answer in enumerate(answers)))


# -- kinds of questions


@pytest.mark.parametrize(
    "answer, approved, comment",
    [
        (True, True, None),
        (False, False, None),
        ({"approved": True, "comment": "fine"}, True, "fine"),
        ({"approved": False}, False, None),
        (JSON + b"true", True, None),
        (JSON + b'{"approved": true, "comment": null}', True, None),
    ],
)
def test_an_approval_takes_true_false_or_both_with_a_comment(answer, approved, comment):
    """45. Approval takes `true`/`false` or `{"approved": .., "comment": ..}`; it says by whom and when."""

    async def body(ctx: Context) -> list[Any]:
        decision = await ctx.wait_for_approval("q", prompt="Ship?", to="ann")
        assert decision.at == ctx.now() == datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
        return [decision.approved, bool(decision), decision.comment, decision.by]

    assert run(body, Answered(3 * SECOND, "q", answer)) == [approved, approved, comment, "ann"]


@pytest.mark.parametrize(
    "choices, answer, value",
    [
        (["a", "b"], "b", "b"),
        (("a", "b"), "a", "a"),
        ([1, 2], 2, 2),
        ([1, True], True, True),
        (Colour, "b", Colour.BLUE),
        ({1: "one", 2: "two"}, 1, 1),
        ({Colour.RED: "Red!"}, "r", Colour.RED),
        ([date(2026, 1, 1), date(2026, 1, 2)], "2026-01-02", date(2026, 1, 2)),
        ([Order(id="a", amount=1)], {"id": "a", "amount": 1}, Order(id="a", amount=1)),
    ],
)
def test_a_choice_gives_back_the_value_that_was_offered(choices, answer, value):
    """A choice is one of a sequence, of an Enum class, or of the keys of a mapping."""
    assert answered(lambda ctx: ctx.wait_for_choice("q", choices), answer) == repr(value)


def test_what_was_not_offered_is_asked_for_again():
    """A wrong answer leaves the question open: it is asked anew, and the log says why."""

    async def body(ctx: Context) -> str:
        return await ctx.wait_for_choice("q", ["a", "b"], timeout=50)

    sends = [Answered(1, "q", "c"), Answered(2, "q", "a")]
    recording = live(of(body), sends=sends, noise=0, park=0)
    assert recording.outcome == "a"
    assert len(recording.commands("wait")) == 2
    assert len({told[1:] for told in recording.commands("wait")}) == 1
    assert len(asked(recording)) == 2
    assert "input q does not fit and is asked for again" in recording.logs[0]
    assert same_on_replay(of(body), recording)


@pytest.mark.parametrize(
    "answer, values",
    [([], []), (["b"], [Colour.BLUE]), (["b", "r", "b"], [Colour.RED, Colour.BLUE])],
)
def test_some_choices_come_in_the_order_in_which_they_were_offered(answer, values):
    """`wait_for_choices` gives a list; each is in it once."""
    assert answered(lambda ctx: ctx.wait_for_choices("q", Colour), answer) == repr(values)


@pytest.mark.parametrize(
    "verb, wrong, right, value",
    [
        (lambda ctx: ctx.wait_for_text("q"), 3, "three", "three"),
        (lambda ctx: ctx.wait_for_input("q", int), "x", 3, 3),
        (lambda ctx: ctx.wait_for_input("q", Literal["a", "b"]), "c", "a", "a"),
        (lambda ctx: ctx.wait_for_form("q", Order), {"id": "a"}, {"id": "a", "amount": "2"},
         Order(id="a", amount=2)),
        (lambda ctx: ctx.wait_for_approval("q"), "yes", {"approved": False}, ...),
        (lambda ctx: ctx.wait_for_choices("q", [1, 2]), [1, 3], [2], [2]),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_refused_and_the_run_goes_on_waiting(
    verb, wrong, right, value
):
    """The final word has the worker, whose instance reads with the real type."""
    found = answered(verb, wrong, right)
    assert value is ... or found == repr(value)


# -- what is stored


def test_what_is_asked_is_in_the_history_at_once():
    """Waits of kind input become `InputRequested` in history at once, with the whole form."""

    async def body(ctx: Context) -> int:
        return await ctx.wait_for_input(
            "q", int, prompt="How many?", metadata={"a": (1, 2)}, to=["ann", "bob"], remind=60
        )

    recording = live(of(body), sends=[Answered(1, "q", 3)], park=0, noise=0)
    (form,) = asked(recording)
    assert form == InputForm(
        "input", "builtins:int", "How many?", {"a": (1, 2)}, {"type": "integer"}, [], ["ann", "bob"], 60.0
    )  # fmt: skip
    assert recording.commands("wait")[0][-1] == ("ann", "bob")


def test_a_form_has_the_schema_of_its_class_and_a_choice_its_labels():
    """JSON schema of the answer; choices with labels."""

    async def body(ctx: Context) -> None:
        await asyncio.gather(
            ctx.wait_for_form("f", Order),
            ctx.wait_for_choice("c", {1: "one", 2: "two"}),
            ctx.wait_for_choices("s", Colour),
        )

    recording = live(of(body), park=0, noise=0)
    form, choice, several = asked(recording)
    assert form.type == f"{__name__}:Order"
    assert form.schema == Order.model_json_schema()
    assert choice.choices == [(1, "one"), (2, "two")]
    assert choice.schema == {"oneOf": [{"const": 1, "title": "one"}, {"const": 2, "title": "two"}]}
    assert several.choices == [("r", "RED"), ("b", "BLUE")]
    assert several.schema["type"] == "array"


# -- order, time-outs, reminders


def test_two_waits_of_one_name_are_answered_in_the_order_in_which_they_asked():
    """45. Two waits of one name in one run: the first asked is answered first."""

    async def body(ctx: Context) -> list[int]:
        return await asyncio.gather(*(ctx.wait_for_input("q", int) for _ in range(2)))

    assert run(body, Answered(1, "q", 1), Answered(2, "q", 2)) == [1, 2]


def test_a_question_times_out():
    """With `default` it gives it, without it is `WaitTimeout`; escalation is a second wait."""

    async def body(ctx: Context) -> list[Any]:
        first = await ctx.wait_for_approval("q", to="ann", timeout=5, default=None)
        second = await ctx.wait_for_approval("q", to="boss", timeout=5)
        return [first, second.approved]

    assert run(body, Answered(7 * SECOND, "q", True)) == [None, True]


def test_an_answer_that_nobody_waits_for_any_more_is_no_harm():
    """An answer that meets a time-out in the inbox has no effect."""

    async def body(ctx: Context) -> Any:
        found = await ctx.wait_for_text("q", timeout=1, default="none")
        await ctx.wait_for_event("go")
        return found

    driver = Driver(of(body), park=0, noise=0)
    driver.step_forward()
    driver.record(history.InputProvided(driver.now, 1, "q", b"\x01\xa1x", None, 1))
    driver.record(history.EventReceived(driver.now, "go", b"\x01\xc0", 2))
    recording = driver.finish()
    assert recording.outcome == "none"
    assert same_on_replay(of(body), recording)


def test_somebody_may_end_a_question():
    """`cancel_wait` works for inputs too."""

    async def body(ctx: Context) -> str:
        return await ctx.wait_for_text("q", timeout=100, default="none")

    assert run(body, EndedWait(1, "q")) == "none"


def test_reminders_are_durable_and_end_with_the_answer():
    """Every `remind` a line of the log; no reminder after it is answered."""

    async def body(ctx: Context) -> list[Any]:
        found = await ctx.wait_for_text("q", to="ann", remind=10)
        await ctx.sleep(100)
        return [found]

    recording = live(of(body), sends=[Answered(35 * SECOND, "q", "x")])
    assert recording.outcome == ["x"]
    assert recording.logs == ["run run: input q has not come yet; asked of ann"] * 3
    assert len([told for told in recording.commands("timer") if told[2] == "reminder"]) == 4
    assert len(recording.commands("cancel timer")) == 1
    assert same_on_replay(of(body), recording)


@pytest.mark.parametrize("end", ["timeout", "cancel"])
def test_reminders_end_with_the_question(end: str):
    """No reminder is left of a question that nobody asks any more."""

    async def body(ctx: Context) -> str:
        asking = asyncio.create_task(
            ctx.wait_for_text("q", remind=10, timeout=25 if end == "timeout" else None)
        )
        await ctx.sleep(26)
        asking.cancel()
        found = await asyncio.gather(asking, return_exceptions=True)
        return type(found[0]).__name__

    recording = live(of(body))
    assert recording.outcome == ("WaitTimeout" if end == "timeout" else "CancelledError")
    assert len(recording.logs) == 2
    assert same_on_replay(of(body), recording)


# -- mistakes


@pytest.mark.parametrize(
    "wrong",
    [
        lambda ctx: ctx.wait_for_text(""),
        lambda ctx: ctx.wait_for_text("q", default=""),
        lambda ctx: ctx.wait_for_text("q", remind=0.5),
        lambda ctx: ctx.wait_for_text("q", to=[3]),
        lambda ctx: ctx.wait_for_text("q", metadata={"a": object()}),
        lambda ctx: ctx.wait_for_choice("q", []),
        lambda ctx: ctx.wait_for_choice("q", "abc"),
        lambda ctx: ctx.wait_for_choice("q", Order(id="1", amount=1)),
        lambda ctx: ctx.wait_for_choice("q", [1, 1]),
        lambda ctx: ctx.wait_for_input("q", Driver),
    ],
)
def test_what_cannot_be_asked(wrong):
    """The error comes to who asks, at once."""

    async def body(ctx: Context) -> None:
        await wrong(ctx)

    kinds = {"ValueError", "TypeError", "PayloadError", "DefinitionError"}
    assert failure(of(body)).type.rpartition(":")[2] in kinds
