"""Exceptions as data, and back: as their own class and as durable's."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import decimal
import http.client
import json
import pickle
import socket
import sqlite3
import ssl
import subprocess
import sys
import types
import urllib.error
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable import errors
from durable.errors import (
    ChildFailed,
    Failed,
    Failure,
    PayloadError,
    RunFailed,
    StepFailed,
    StepTimeout,
)
from durable.model.failure import (
    MOST_FAILURES,
    MOST_MESSAGE,
    MOST_TRACEBACK,
    decode_failure,
    encode_failure,
    failure_of,
    rebuild,
)

RAN: list[str] = []


class CardDeclined(Exception):
    def __init__(self, code: str, *, limit: int) -> None:
        RAN.append("init")
        super().__init__(f"declined {code}")
        self.code, self.limit = code, limit


class WithNew(Exception):
    def __new__(cls, *args):
        RAN.append("new")
        return super().__new__(cls, *args)

    def __setattr__(self, name: str, value: Any) -> None:
        RAN.append("setattr")
        super().__setattr__(name, value)


class Slots(Exception):
    __slots__ = ("unset", "x")

    def __init__(self, x: int) -> None:
        self.x = x


class Meta(type):
    pass


class WithMeta(Exception, metaclass=Meta):
    pass


@dataclasses.dataclass
class Data(Exception):
    a: int
    b: str = "x"


class Final(Exception):
    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("final")


class NoSuper(Exception):
    def __init__(self, a: int, b: int) -> None:
        self.a = a


class HasProperties(Exception):
    @property
    def step(self) -> str:
        raise RuntimeError

    failure = property(lambda self: 1 / 0)


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Model(pydantic.BaseModel):
    x: int


def validation_error() -> Exception:
    try:
        Model(x="a")  # type: ignore[arg-type]
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


OWN_CLASS = [
    CardDeclined("51", limit=10),
    WithNew("q"),
    Slots(3),
    WithMeta("m"),
    Data(1),
    NoSuper(1, 2),
    HasProperties("p"),
    OSError(2, "No such file", "/x"),
    OSError("only text"),
    OSError(1, "a", "from", None, "to"),
    FileNotFoundError(2, "nope", "/y"),
    ConnectionResetError(104, "reset"),
    socket.gaierror(-2, "unknown"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
    UnicodeEncodeError("utf8", "\ud800", 0, 1, "bad"),
    KeyError("k"),
    IndexError(3),
    ZeroDivisionError("z"),
    SyntaxError("bad", ("f", 1, 2, "t")),
    ImportError("x", name="n", path="p"),
    AttributeError("a", name="n", obj=3),
    NameError("a", name="n"),
    TimeoutError("t"),
    asyncio.QueueEmpty(),
    json.JSONDecodeError("m", "doc", 1),
    subprocess.CalledProcessError(1, ["x"]),
    sqlite3.OperationalError("locked"),
    urllib.error.URLError("r"),
    ssl.SSLError(1, "x"),
    decimal.InvalidOperation("x"),
    http.client.IncompleteRead(b"\xff"),
    AssertionError("x"),
    errors.PayloadError("p"),
    errors.NonRetryable("n"),
    errors.InvalidInput("i", [{"loc": ("a",), "msg": "m"}]),
    errors.RunCancelled("c", run_id="r", reason="why"),
]
PLAIN = [
    Final("z"),
    StopIteration(3),
    StopAsyncIteration(),
    ExceptionGroup("g", [ValueError(1), KeyError("k")]),
    BaseExceptionGroup("g", [KeyboardInterrupt()]),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError("c"),
    validation_error(),
    Exception("base of both"),
]


def kept(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException as raised:
        return decode_failure(encode_failure(failure_of(raised)))


@pytest.mark.parametrize("error", OWN_CLASS, ids=lambda error: type(error).__name__)
def test_arrives_as_its_own_class_and_as_ours(error):
    failure = kept(error)
    RAN.clear()
    back = rebuild(failure, StepFailed, step="charge", attempts=3)
    assert RAN == []
    assert isinstance(back, type(error))
    assert isinstance(back, StepFailed)
    assert str(back) == failure.message == str(error)
    assert back.args == error.args
    assert (back.step, back.attempts, back.failure) == ("charge", 3, failure)
    for name, value in failure.attributes.items():
        assert getattr(back, name) == value == getattr(error, name)
    if type(error) not in (Slots, HasProperties):
        assert vars(error).items() <= vars(back).items()


@pytest.mark.parametrize("error", PLAIN, ids=lambda error: type(error).__name__)
def test_arrives_as_ours_alone(error):
    failure = kept(error)
    back = rebuild(failure, StepFailed, step="charge", attempts=1)
    assert type(back) is StepFailed
    assert str(back) == failure.message == str(error)
    assert back.failure.type.endswith(type(error).__qualname__)


@pytest.mark.parametrize("error", OWN_CLASS + PLAIN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "base", [ChildFailed, errors.ChildCancelled, RunFailed, StepTimeout, errors.RunTimeout, Failed]
)
def test_every_pair_of_classes_gives_an_exception(error, base):
    failure = kept(error)
    back = rebuild(failure, base, run_id="r")
    assert isinstance(back, base)
    assert (back.run_id, back.failure, str(back)) == ("r", failure, failure.message)
    again = failure_of(back)
    assert dataclasses.replace(again, traceback="") == dataclasses.replace(failure, traceback="")
    assert isinstance(rebuild(again, RunFailed), RunFailed)
    for other in (copy.copy(back), pickle.loads(pickle.dumps(back))):
        assert type(other) is type(back)
        assert other.failure == failure


def test_an_error_stays_itself_through_step_child_and_run():
    step = rebuild(kept(CardDeclined("51", limit=3)), StepFailed, step="charge", attempts=1)
    child = rebuild(kept(step), ChildFailed, run_id="c")
    run = rebuild(kept(child), RunFailed, run_id="r")
    with pytest.raises(CardDeclined) as caught:
        raise run
    assert caught.value.code == "51"
    assert isinstance(caught.value, RunFailed)
    assert not isinstance(caught.value, ChildFailed)
    assert run.failure.traceback.count("It was passed on here") == 2


def test_a_class_unknown_here_keeps_its_data_on_the_way():
    failure = Failure("gone.module:Gone", "m", "tb", {"args": (1,), "code": 5})
    step = rebuild(failure, StepFailed, step="s", attempts=1)
    assert type(step) is StepFailed
    run = rebuild(kept(step), RunFailed, run_id="r")
    assert type(run) is RunFailed
    assert run.failure.type == "gone.module:Gone"
    assert run.failure.attributes == failure.attributes


def test_failures_of_our_own_family():
    timeout = StepTimeout("took too long")
    timeout.step, timeout.attempts = "charge", 2
    back = rebuild(kept(timeout), ChildFailed, run_id="c")
    assert isinstance(back, StepTimeout)
    assert isinstance(back, TimeoutError)
    assert isinstance(back, ChildFailed)
    assert (back.step, back.attempts, back.run_id) == ("charge", 2, "c")
    assert type(rebuild(kept(TimeoutError("t")), StepTimeout)) is StepTimeout
    assert isinstance(rebuild(kept(timeout), StepFailed, step="s", attempts=1), StepTimeout)


def test_classes_are_made_once_and_nothing_is_imported():
    failure = kept(CardDeclined("1", limit=1))
    assert type(rebuild(failure, StepFailed)) is type(rebuild(failure, StepFailed))
    before = set(sys.modules)
    for name in (
        "antigravity:X",
        "os.path:join",
        "builtins:int",
        "builtins:print",
        ":",
        "",
        "x" * 99,
    ):
        assert type(rebuild(Failure(name, "m"), StepFailed)) is StepFailed
    assert set(sys.modules) == before


def test_a_lazy_module_is_not_asked():
    module = types.ModuleType("lazy_module_of_a_test")
    module.__getattr__ = RAN.append  # type: ignore[method-assign]
    sys.modules[module.__name__] = module
    RAN.clear()
    try:
        assert type(rebuild(Failure("lazy_module_of_a_test:E", "m"), StepFailed)) is StepFailed
    finally:
        del sys.modules[module.__name__]
    assert RAN == []


def test_hostile_data_sets_only_data():
    attributes = {
        "args": "not a tuple",
        "__class__": "x",
        "__traceback__": 1,
        "__cause__": 2,
        "__dict__": {},
        "with_traceback": 3,
    }
    back = rebuild(Failure("builtins:ValueError", "m", "", attributes), StepFailed)
    assert isinstance(back, ValueError)
    assert back.__traceback__ is None
    assert back.__cause__ is None
    assert (
        type(rebuild(Failure("builtins:OSError", "m", "", {"args": None}), StepFailed))
        is StepFailed
    )
    odd = rebuild(Failure("builtins:UnicodeDecodeError", "m", "", {"args": (1,)}), StepFailed)
    assert type(odd) is StepFailed


def test_causes_are_kept_and_rebuilt():
    def fail() -> None:
        try:
            try:
                {}["k"]
            except KeyError:
                int("x")
        except ValueError as error:
            raise CardDeclined("1", limit=1) from error

    with pytest.raises(CardDeclined) as caught:
        fail()
    back = rebuild(decode_failure(encode_failure(failure_of(caught.value))), StepFailed)
    assert isinstance(back.__cause__, ValueError)
    assert isinstance(back.__cause__, Failed)
    assert isinstance(back.__cause__.__cause__, KeyError)
    suppressed = TypeError()
    suppressed.__context__ = KeyError()
    suppressed.__suppress_context__ = True
    assert failure_of(suppressed).cause is None


def test_cycles_and_crowds_are_bounded():
    one, other = ValueError("1"), ValueError("2")
    one.__cause__, other.__cause__ = other, one
    assert failure_of(one).cause.cause is None  # type: ignore[union-attr]
    chain = ValueError("0")
    for number in range(500):
        above = ValueError(str(number))
        above.__cause__ = chain
        chain = above
    depth, failure = 0, decode_failure(encode_failure(failure_of(chain)))
    while failure.cause is not None:
        depth, failure = depth + 1, failure.cause
    assert depth == 10
    group = ExceptionGroup("g", [ValueError(n) for n in range(60)])
    for _ in range(2):
        group = ExceptionGroup("g", [group] * 60)

    def count(failure: Failure) -> int:
        return 1 + sum(map(count, failure.exceptions))

    assert count(failure_of(group)) <= MOST_FAILURES


def test_groups_keep_their_members():
    failure = kept(ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError("k")])]))
    assert [member.type for member in failure.exceptions] == [
        "builtins:ValueError",
        "builtins:ExceptionGroup",
    ]
    assert failure.exceptions[1].exceptions[0].message == "'k'"


def test_odd_exceptions_are_kept_as_text():
    assert "raised RuntimeError" in kept(BadStr()).message
    lock = object()
    failure = kept(ValueError(lock, [lock], "kept"))
    assert failure.attributes["args"][2] == "kept"
    assert "object object" in failure.attributes["args"][0]
    error = CardDeclined("1", limit=1)
    error.lock = lock  # type: ignore[attr-defined]
    assert set(kept(error).attributes) == {"args", "code", "limit"}


def test_huge_and_strange_texts():
    failure = kept(ValueError("\ud800\x00" + "x" * 10_000_000))
    assert failure.message.startswith("\ud800\x00x")
    assert failure.message.endswith("[9,990,002 more characters]")
    assert len(failure.message) < MOST_MESSAGE + 50
    assert len(encode_failure(failure)) < 60_000

    def recurse(n: int) -> None:
        exec(f"x = {n!r}\n" + "recurse(n + 1)", {"recurse": recurse, "n": n})

    with pytest.raises(RecursionError) as caught:
        recurse(0)
    text = failure_of(caught.value).traceback
    assert "characters left out" in text
    assert len(text) < MOST_TRACEBACK + 60
    assert text.endswith("\n")


def test_notes_survive():
    error = ValueError("v")
    error.add_note("look here")
    assert rebuild(kept(error), StepFailed).__notes__ == ["look here"]


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(exclude_categories=())), st.lists(st.text() | st.binary() | st.integers())
)
def test_any_text_and_arguments(message, args):
    failure = kept(ValueError(message, *args))
    assert failure.attributes["args"] == (message, *args)
    assert isinstance(rebuild(failure, RunFailed), ValueError)


def test_a_foreign_worker_writes_json():
    text = (
        b'{"type": "builtins:KeyError", "message": "m", "cause": {"type": "x:Y", "message": "c"}}'
    )
    failure = decode_failure(b"\x02" + text)
    assert isinstance(rebuild(failure, StepFailed), KeyError)
    assert failure.cause is not None
    assert failure.cause.message == "c"
    for body in (b"", b"\x02[]", b"\x02{}", b"\x01\x90", b"\x01\xc0", b"\x07", b'\x02{"type": 1}'):
        with pytest.raises(PayloadError):
            decode_failure(body)
