"""Arguments and results of functions: what is written, and how annotations are found."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict, Unpack

from durable.errors import DefinitionError, PayloadError, PayloadTooLarge
from durable.model.payload import arguments_of, fingerprint, parameter_of, result_of

if TYPE_CHECKING:
    from somewhere import Missing

T = TypeVar("T")
WHERE = "step charge"


class Order(BaseModel):
    id: str


class Options(TypedDict, total=False):
    size: int
    order: Order


def charge(
    order: Order, amount: int = 1, /, *rest: Order, note: str = "", **more: Order
) -> Order: ...
def plain(a: int, b="x", *, c: float | None = None, d: str = "") -> Later: ...
def unknown(a: Missing, b: int) -> Missing: ...
def options(a: int, **options: Unpack[Options]) -> None: ...
def generic(value: T) -> list[T]: ...
def promised() -> Awaitable[Order]: ...


class Later(BaseModel):
    """Defined after the functions that name it."""

    n: int


class Shop:
    def pay(self, order: Order) -> Order: ...
    @staticmethod
    def static(order: Order) -> Order: ...
    def __call__(self, order: Order) -> Order: ...


def there_and_back(fn: Callable[..., Any], *args: Any, skip: int = 0, **kwargs: Any) -> Any:
    shape = arguments_of(fn, skip=skip)
    return shape.decode(shape.encode(args, kwargs, WHERE), WHERE)


def test_arguments_come_back_by_their_annotations():
    args = (Order(id="1"), 5, Order(id="2"))
    kwargs = {"note": "n", "extra": Order(id="3")}
    assert there_and_back(charge, *args, **kwargs) == (args, kwargs)


def test_only_the_arguments_given_are_written():
    assert there_and_back(plain, 1) == ((1,), {})
    assert there_and_back(plain) == ((), {})
    one, other = arguments_of(plain), arguments_of(lambda a, b="other": None)
    assert one.encode((1,), {}, WHERE) == other.encode((1,), {}, WHERE)


def test_the_order_of_named_arguments_does_not_show():
    shape = arguments_of(plain)
    one = shape.encode((1,), {"c": 1.5, "d": "x"}, WHERE)
    assert shape.encode((1,), {"d": "x", "c": 1.5}, WHERE) == one


def test_leading_parameters_are_left_out():
    assert there_and_back(unknown, 2, skip=1) == ((2,), {})
    assert there_and_back(Shop.pay, Order(id="1"), skip=1) == ((Order(id="1"),), {})


@pytest.mark.parametrize(
    "fn",
    [
        Shop().pay,
        Shop.static,
        Shop(),
        functools.partial(Shop().pay),
        functools.wraps(charge)(lambda *a, **k: None),
    ],
    ids=["bound method", "static method", "callable object", "partial", "wrapped"],
)
def test_annotations_of_all_kinds_of_callables_are_found(fn):
    assert there_and_back(fn, Order(id="1")) == ((Order(id="1"),), {})
    assert result_of(fn).decode(result_of(fn).encode(Order(id="1"), "r"), "r") == Order(id="1")


def test_builtins_and_classes():
    assert there_and_back(len, [1]) == (([1],), {})
    assert there_and_back(max, 1, 2) == ((1, 2), {})
    assert result_of(len).encode(1, "r") == b"\x01\x01"
    assert there_and_back(Order, id="1") == ((), {"id": "1"})
    assert result_of(Order).decode(result_of(Order).encode(Order(id="1"), "r"), "r") == Order(
        id="1"
    )


def test_forward_references_are_resolved_at_the_first_use():
    assert result_of(plain).decode(result_of(plain).encode(Later(n=1), "r"), "r") == Later(n=1)


def test_local_names_are_found_in_the_closure_or_as_given():
    class Local(BaseModel):
        n: int

    def closed(value: Local) -> Local:
        return Local(n=value.n)

    def open_(value: Local) -> Local: ...

    assert there_and_back(closed, Local(n=1)) == ((Local(n=1),), {})
    with pytest.raises(
        DefinitionError, match=r"'Local' of parameter value of open_ cannot be resolved"
    ):
        arguments_of(open_).resolve()
    shape = arguments_of(open_, names=locals())
    assert shape.decode(shape.encode((Local(n=1),), {}, WHERE), WHERE) == ((Local(n=1),), {})
    assert result_of(open_, names=locals()).encode(Local(n=1), "r")


def test_an_unresolvable_annotation_says_what_to_do():
    with pytest.raises(DefinitionError, match=r"'Missing' of the result of unknown.*TYPE_CHECKING"):
        result_of(unknown).resolve()


def test_a_type_without_schema_names_function_and_parameter():
    class Plain:
        pass

    def takes(thing: Plain, n: int) -> None:
        return Plain

    with pytest.raises(DefinitionError, match=r"thing of .*takes: .*Plain cannot be stored"):
        arguments_of(takes, names=locals()).resolve()


def test_unpacked_options_generics_and_awaitables():
    given = {"size": 1, "order": Order(id="1")}
    assert there_and_back(options, 1, **given) == ((1,), given)
    assert there_and_back(generic, (1, 2)) == (((1, 2),), {})
    shape = result_of(promised)
    assert shape.decode(shape.encode(Order(id="1"), "r"), "r") == Order(id="1")
    assert parameter_of(charge, "order").decode(b'\x02{"id": "1"}', "input") == Order(id="1")


def test_errors_name_the_argument():
    shape = arguments_of(charge)
    with pytest.raises(PayloadError, match="argument amount of step charge cannot be stored: 'x'"):
        shape.encode((Order(id="1"), "x"), {}, WHERE)
    with pytest.raises(PayloadError, match="argument extra of step charge"):
        shape.encode((), {"extra": object()}, WHERE)
    with pytest.raises(PayloadError, match=r"argument 0 of step charge \(at \[0\]\)"):
        arguments_of(max).encode(([Order(id="1")],), {}, WHERE)
    with pytest.raises(PayloadTooLarge, match="arguments of step charge takes"):
        shape.encode((), {"note": "x" * 100}, WHERE, limit=50)


def test_plain_arguments_are_those_that_need_no_copy():
    shape = arguments_of(plain)
    assert shape.plain((1, "x"), {"c": 2.0})
    assert shape.plain((1, None), {"c": None})
    assert not shape.plain((1, [1]), {})
    assert not shape.plain(("1",), {}), "a str under int is read as what the annotation says"
    assert not arguments_of(charge).plain((), {"extra": "x"})
    assert arguments_of(max).plain((1, 2), {})
    for args in ((1, "x"), (1, None), (1, [1])):
        assert shape.written(args, {}, "plain")[1] is shape.plain(args, {})


def test_arguments_in_json():
    read = arguments_of(charge).decode(b'\x02[[{"id": "1"}, 2], {"note": "n"}]', WHERE)
    assert read == ((Order(id="1"), 2), {"note": "n"})


@pytest.mark.parametrize(
    "body", [b"\x01\x01", b"\x01\x90", b"\x01\x92\x90\x81\x01\x02", b"\x02{}", b""]
)
def test_damaged_arguments(body):
    with pytest.raises(PayloadError, match="arguments of step charge cannot be read"):
        arguments_of(charge).decode(body, WHERE)


def test_fingerprints():
    shape = arguments_of(max)
    one = fingerprint(shape.encode((1, {"a", "b"}), {}, WHERE))
    assert 0 <= one < 2**64
    assert one == fingerprint(shape.encode((1, {"b", "a"}), {}, WHERE))
    assert one != fingerprint(shape.encode((1, {"a", "c"}), {}, WHERE))
    assert fingerprint(b"") == 0xE4A6A0577479B2B4
