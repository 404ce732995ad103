"""What `@step` leaves behind, and what `ctx.step` makes of other callables."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import weakref
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from durable import (
    AsyncStep,
    DefinitionError,
    NotAllowedInWorkflow,
    Retry,
    SyncStep,
    TransactionStep,
    minutes,
    step,
)
from durable.model.naming import described
from durable.model.scope import ACTIVATION, STEP, in_workflow
from durable.model.steps import as_step


class Order(BaseModel):
    id: str
    lines: int = 1


async def undo(charge: str) -> None:
    """Does nothing."""


@step
async def charge(order: Order, times: int = 1) -> str:
    """Take the money."""
    return f"{order.id}*{times}"


@step(retry=3, timeout=minutes(1), compensate=undo)
def pack(order: Order) -> int:
    return order.lines


@step(transaction=True, retry=2)
async def book(conn: list[int], amount: int) -> int:
    conn.append(amount)
    return amount


def plain(n: int) -> int:
    return n + 1


class Depot:
    def __init__(self, place: str) -> None:
        self.place = place

    @step
    async def send(self, order: Order) -> str:
        return self.place + order.id

    @step(timeout=3)
    def weigh(self, order: Order, *, tare: int = 0) -> int:
        return order.lines + tare

    @staticmethod
    @step
    async def label(text: str) -> str:
        return text.upper()

    @classmethod
    @step
    async def named(cls, text: str) -> str:
        return cls.__name__ + text

    @classmethod
    async def open(cls, place: str) -> str:
        return place

    async def close(self, when: int) -> str:
        return f"{self.place} {when}"


# -- what a step is


async def test_a_step_is_called_like_its_function_outside_of_workflows():
    assert await charge(Order(id="a"), times=2) == "a*2"
    assert pack(Order(id="a", lines=3)) == 3
    conn: list[int] = []
    assert await book(conn, 5) == 5
    assert conn == [5]


def test_a_step_knows_its_function_and_its_options():
    assert isinstance(charge, AsyncStep)
    assert charge.is_async
    assert (charge.name, charge.retry, charge.timeout, charge.queue) == ("charge", None, None, None)
    assert (charge.executor, charge.fingerprint, charge.transaction) == (None, "strict", False)
    assert isinstance(pack, SyncStep)
    assert not pack.is_async
    assert (pack.retry, pack.timeout) == (Retry(max_attempts=3), 60.0)
    assert pack.compensate is undo
    assert isinstance(book, TransactionStep)
    assert book.transaction


def test_a_step_looks_like_its_function():
    assert (charge.__name__, charge.__doc__) == ("charge", "Take the money.")
    assert inspect.signature(charge) == inspect.signature(charge.fn)
    assert list(inspect.signature(Depot("x").send).parameters) == ["order"]
    assert repr(charge) == "<step charge>"


def test_only_features_that_are_built_are_supported():
    assert charge.unsupported is None
    assert pack.compensate is not None
    assert pack.unsupported is None
    assert "transaction" in str(book.unsupported)
    assert "queue" in str(charge.options(queue="gpu").unsupported)
    assert "queue" in str(charge.options(queue="gpu", compensate=undo).unsupported)


def test_arguments_and_result_are_stored_by_their_annotations():
    order = Order(id="a")
    written = charge.arguments.encode((order,), {"times": 2}, "charge")
    assert charge.arguments.decode(written, "charge") == ((order,), {"times": 2})
    assert charge.result.decode(charge.result.encode("x", "r"), "r") == "x"
    assert book.arguments.decode(book.arguments.encode((1,), {}, "book"), "book") == ((1,), {})


def test_types_that_cannot_be_stored_are_refused_when_resolved():
    class Opaque: ...

    @step
    def takes(value: Opaque) -> None: ...

    @step
    def gives() -> Opaque:
        return Opaque()

    for wrong in (takes, gives):
        with pytest.raises(DefinitionError):
            wrong.resolve()
    charge.resolve()


# -- names


def test_names_leave_out_module_and_enclosing_functions():
    def local() -> None: ...

    class Nested:
        @step
        def method(self) -> None: ...

    assert step(local).name == "local"
    assert Nested.method.name == "Nested.method"
    assert Depot.send.name == "Depot.send"
    assert Depot.label.name == "Depot.label"
    assert step(local, name="old").name == "old"


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", 7])
def test_a_name_is_printable_and_not_too_long(name: Any):
    with pytest.raises(DefinitionError, match="name="):
        step(plain, name=name)


@pytest.mark.parametrize("nameless", [lambda: 1, partial(plain, 1), print.__call__])
def test_what_has_no_name_needs_one(nameless: Any):
    with pytest.raises(DefinitionError, match=r'write step\(obj, name="\.\.\."\)'):
        as_step(nameless)
    assert step(nameless, name="given").name == "given"


def test_callable_objects_are_steps_with_a_name_given():
    class Sends:
        async def __call__(self, n: int) -> str:
            return str(n)

    made: Any = step(Sends(), name="sends")
    assert made.is_async
    with pytest.raises(DefinitionError, match="no name of its own"):
        step(Sends())


async def test_a_partial_of_a_coroutine_function_is_async():
    made: Any = step(partial(charge.fn, Order(id="z")), name="charge_z")
    assert made.is_async
    assert await made() == "z*1"


# -- what cannot be a step


def test_messages_name_the_function_and_its_line():
    line = plain.__code__.co_firstlineno
    with pytest.raises(DefinitionError) as caught:
        step(plain, name="")
    assert str(caught.value).startswith(f"step plain (test_steps.py:{line}): name= must be ")
    assert "\n" not in str(caught.value)
    assert described(partial(partial(plain), 1)) == f"plain (test_steps.py:{line})"


def test_generators_cannot_be_steps():
    def some():
        yield 1

    async def more():
        yield 1

    for wrong in (some, more):
        with pytest.raises(DefinitionError, match="generator"):
            step(wrong)


def test_static_and_class_methods_are_decorated_above_the_step():
    for kind in (staticmethod, classmethod):
        with pytest.raises(DefinitionError, match=f"write @{kind.__name__} above @step"):
            step(kind(plain))  # type: ignore[call-overload]


def test_what_cannot_be_called_is_refused():
    with pytest.raises(DefinitionError, match="cannot be called"):
        as_step(3)


def test_other_places_need_a_function_that_is_found_there():
    def local() -> None: ...

    for wrong in (local, Depot.weigh.fn, Depot("x").weigh, partial(plain, 1)):
        with pytest.raises(DefinitionError, match="at module level"):
            step(wrong, name="x", queue="gpu")
        with pytest.raises(DefinitionError, match="at module level"):
            step(wrong, name="x", executor="process")
    assert step(plain, executor="process").executor == "process"
    assert step(plain, queue="gpu").queue == "gpu"


def test_executors_are_for_sync_functions():
    for executor in ("thread", "process"):
        with pytest.raises(DefinitionError, match="executor= is for sync functions"):
            charge.options(executor=executor)


def test_transactional_steps_are_async_functions_without_placement():
    with pytest.raises(DefinitionError, match="async def"):
        step(transaction=True)(plain)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="queue= does not go with transaction=True"):
        book.options(queue="gpu")

    class Ledger:
        @step(transaction=True)
        async def add(self, amount: int) -> None: ...

    with pytest.raises(DefinitionError, match="not a method"):
        _ = Ledger().add


@pytest.mark.parametrize(
    "option", [{"executor": "async"}, {"fingerprint": "lax"}, {"compensate": 3}, {"queue": ""}]
)
def test_options_out_of_their_range_are_refused(option: Any):
    with pytest.raises(DefinitionError, match=f"{next(iter(option))}= must be"):
        step(plain, **option)


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, timedelta(-1)])
def test_a_timeout_is_a_length_of_time(timeout: Any):
    with pytest.raises(ValueError, match="timeout="):
        step(plain, timeout=timeout)


def test_unknown_options_are_refused():
    misspelt: Any = {"timout": 3}
    with pytest.raises(TypeError, match="timout"):
        step(plain, **misspelt)
    with pytest.raises(TypeError, match="timout"):
        charge.options(**misspelt)


# -- options for one place of use


def test_options_make_another_step_and_keep_the_rest():
    other = pack.options(timeout=None, name="packing")
    assert (other.name, other.timeout, other.retry) == ("packing", None, Retry(max_attempts=3))
    assert (pack.name, pack.timeout) == ("pack", 60.0)
    assert other.fn is pack.fn
    assert type(other) is SyncStep
    assert step(pack, timeout=5).timeout == 5.0


# -- methods


async def test_a_step_of_a_class_binds_like_a_method():
    north, south = Depot("n"), Depot("s")
    assert await north.send(Order(id="1")) == "n1"
    assert await south.send(Order(id="1")) == "s1"
    assert Depot.send is Depot.__dict__["send"]
    assert north.weigh(Order(id="1"), tare=2) == 3
    assert await north.label("a") == "A"
    assert await Depot.named("x") == "Depotx"


def test_a_bound_step_leaves_its_instance_out_of_what_is_stored():
    order, bound = Order(id="1"), Depot("n").weigh
    written = bound.arguments.encode((order,), {"tare": 1}, "weigh")
    assert bound.arguments.decode(written, "weigh") == ((order,), {"tare": 1})
    assert bound.arguments is Depot("s").weigh.arguments
    assert bound.options(timeout=9).fn(order) == 1
    assert bound.timeout == 3.0


# -- what ctx.step makes of others


async def test_functions_methods_classes_and_builtins_are_steps():
    assert as_step(plain).fn(1) == 2
    assert await as_step(Depot("n").close).fn(4) == "n 4"
    assert await as_step(Depot.open).fn("x") == "x"
    assert as_step(len).fn("abc") == 3
    assert as_step("abc".upper).fn() == "ABC"
    assert as_step(str.upper).fn("x") == "X"
    assert as_step(Order).fn(id="7") == Order(id="7")
    names = [as_step(each).name for each in (Depot("n").close, Depot.open, len, str.upper, Order)]
    assert names == ["Depot.close", "Depot.open", "len", "str.upper", "Order"]


def test_the_result_of_a_class_is_stored_as_that_class():
    made, order = as_step(Order), Order(id="7", lines=2)
    assert made.result.decode(made.result.encode(order, "r"), "r") == order

    class Colour(Enum):
        RED = "red"

    colour = as_step(Colour)
    assert colour.result.decode(colour.result.encode(Colour.RED, "r"), "r") is Colour.RED


def test_a_function_becomes_a_step_once():
    assert as_step(plain) is as_step(plain)
    assert as_step(Order) is as_step(Order)
    assert as_step(len) is as_step(len)
    assert as_step(charge) is charge
    method = Depot("n").close
    assert as_step(method).arguments is as_step(Depot("s").close).arguments


def test_wrapping_a_function_does_not_hand_on_its_step():
    first = as_step(plain)

    @functools.wraps(plain)
    def wrapper(n: int) -> int:
        return plain(n) * 10

    assert as_step(wrapper) is not first
    assert as_step(wrapper).fn(1) == 20


def test_a_closure_and_its_step_are_forgotten_together():
    def make():
        def local() -> int:
            return 1

        as_step(local)
        return weakref.ref(local)

    gone = make()
    gc.collect()
    assert gone() is None


# -- inside a workflow


def in_run(fn: Any, *args: Any) -> Any:
    token = ACTIVATION.set(object())
    try:
        return fn(*args)
    finally:
        ACTIVATION.reset(token)


@pytest.mark.parametrize("each", [charge, pack, Depot("x").send, book])
def test_calling_a_step_in_a_workflow_is_refused_and_says_what_to_write(each: Any):
    with pytest.raises(NotAllowedInWorkflow) as caught:
        in_run(each, Order(id="1"))
    line = in_run.__code__.co_firstlineno + 3
    expected = f"{each.name} is a step: write `await ctx.step({each.name}, ...)`"
    assert str(caught.value) == f"{expected} at test_steps.py:{line}"


def test_calling_a_step_in_a_step_is_a_plain_call():
    def attempt() -> int:
        assert in_workflow()
        token = STEP.set(object())
        try:
            assert not in_workflow()
            return pack(Order(id="1", lines=4))
        finally:
            STEP.reset(token)

    assert in_run(attempt) == 4
    assert not in_workflow()
