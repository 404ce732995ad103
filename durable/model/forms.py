"""What a person is asked, as it is stored; and whether an answer fits."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

from durable.clock import to_datetime
from durable.errors import InvalidInput, PayloadError
from durable.model.answers import (
    DoesNotFit,
    approval_of,
    chosen,
    jsonable,
    offered,
    plain_of,
    several_chosen,
)
from durable.model.events import Decision
from durable.model.history import InputProvided
from durable.model.json_schema import Problem, problem, problems
from durable.model.schema import name_of
from durable.model.shape import ANY, Shape
from durable.model.shapes import shape_of
from durable.model.value import value

FormKind: TypeAlias = Literal["input", "form", "text", "approval", "choice", "choices"]
"""What is asked for: a value of a type, the fields of a class, words, yes or no, one or some of a list."""


@value
class InputForm:
    """A question to a person: all that whoever shows it needs to know."""

    kind: FormKind
    type: str
    """Of the answer: `module:qualified name` of a class, or how one would write the annotation."""
    prompt: str
    metadata: Mapping[str, Any]
    schema: Mapping[str, Any]
    """JSON schema of the answer."""
    choices: Sequence[tuple[Any, str]]
    """What is offered, as plain data, with its labels."""
    to: Sequence[str]
    remind: float | None
    """Seconds between two reminders."""


def pack_form(form: InputForm) -> bytes:
    """As bytes, for the history; `PayloadError` when the metadata is not plain data."""
    fields = [
        form.kind,
        form.type,
        form.prompt,
        dict(form.metadata),
        dict(form.schema),
        [list(choice) for choice in form.choices],
        list(form.to),
        form.remind,
    ]
    return ANY.encode(fields, "what is asked (prompt, metadata and choices)")


_FIELDS: Final = 8


def unpack_form(data: bytes) -> InputForm:
    """The reverse of `pack_form`; fields that a newer version added are ignored."""
    fields = ANY.decode(data, "a form")[:_FIELDS]
    kind, type, prompt, metadata, schema, choices, to, remind = fields
    pairs = [(choice[0], choice[1]) for choice in choices]
    return InputForm(kind, type, prompt, metadata, schema, pairs, to, remind)


# -- kinds of questions, as the workflow asks them


class Question(Protocol):
    """What is asked, and how the answer is read; its fields are those of the form."""

    kind: FormKind
    type: str
    schema: Mapping[str, Any]
    choices: Sequence[tuple[Any, str]]

    def read(self, event: InputProvided) -> Any:
        """The value of an answer; `PayloadError` when it does not fit."""
        ...


class Typed:
    """A value of any type."""

    def __init__(self, kind: FormKind, annotation: Any) -> None:
        self.kind: FormKind = kind
        self.type = _type_name(annotation)
        self._shape = shape_of(annotation)
        self.schema = self._shape.json_schema()
        self.choices: Sequence[tuple[Any, str]] = []

    def read(self, event: InputProvided) -> Any:
        """The value of this type."""
        return self._shape.decode(event.payload, f"input {event.name}")


_YES_OR_NO: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "boolean"},
        {
            "type": "object",
            "properties": {
                "approved": {"type": "boolean"},
                "comment": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["approved"],
            "additionalProperties": False,
        },
    ]
}


class Approval:
    """Yes or no, with a comment."""

    def __init__(self) -> None:
        self.kind: FormKind = "approval"
        self.type = self.kind
        self.schema: Mapping[str, Any] = _YES_OR_NO
        self.choices: Sequence[tuple[Any, str]] = []

    def read(self, event: InputProvided) -> Decision:
        """The decision, with who took it and when."""
        where = f"input {event.name}"
        try:
            approved, comment = approval_of(ANY.decode(event.payload, where))
        except DoesNotFit as error:
            raise PayloadError(f"{where} is no decision: {error}") from error
        return Decision(approved=approved, comment=comment, by=event.by, at=to_datetime(event.at))


class Choice:
    """One of what is offered, or some of it."""

    def __init__(self, choices: Any, *, several: bool) -> None:
        self.kind: FormKind = "choices" if several else "choice"
        verb = f"wait_for_{self.kind}"
        self._values, labels = offered(choices, verb)
        self._plain = [plain_of(one) for one in self._values]
        if len({ANY.encode(one, "a choice") for one in self._plain}) < len(self._plain):
            message = f"{verb} offers a choice twice: {self._values!r}"
            raise ValueError(message)
        self.type = self.kind
        self.choices: Sequence[tuple[Any, str]] = list(zip(self._plain, labels, strict=True))
        one = {
            "oneOf": [{"const": jsonable(plain), "title": label} for plain, label in self.choices]
        }
        many = {"type": "array", "items": one, "uniqueItems": True}
        self.schema: Mapping[str, Any] = many if several else one

    def read(self, event: InputProvided) -> Any:
        """What was chosen: the value itself, or a list of values."""
        where = f"input {event.name}"
        data = ANY.decode(event.payload, where)
        try:
            if self.kind == "choice":
                return self._values[chosen(self._plain, data)]
            return [self._values[number] for number in several_chosen(self._plain, data)]
        except DoesNotFit as error:
            raise PayloadError(f"{where} was not offered: {error}") from error


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return f"{annotation.__module__}:{annotation.__qualname__}"
    return name_of(annotation)


# -- answers, as a client gives them


def check_answer(form: InputForm, name: str, data: Any) -> bytes:
    """The payload of an answer to input `name`; `InvalidInput` when it does not fit the form.

    The class of a form is asked where this process has it; otherwise its JSON schema. Either way the
    worker reads the answer with the real type, and asks again if it does not fit.
    """
    try:
        return ANY.encode(_checked(form, data), f"input {name}")
    except DoesNotFit as error:
        message = f"input {name}: the answer does not fit: {error}"
        raise InvalidInput(message, error.problems) from error
    except PayloadError as error:
        found = problems_of(error)
        raise InvalidInput(str(error), found) from error


def _checked(form: InputForm, data: Any) -> Any:
    """The answer as plain data."""
    if form.kind == "approval":
        approved, comment = approval_of(data)
        return {"approved": approved, "comment": comment}
    offers = [plain for plain, _ in form.choices]
    if form.kind == "choice":
        return offers[chosen(offers, data)]
    if form.kind == "choices":
        return [offers[number] for number in several_chosen(offers, data)]
    shape = _shape_here(form)
    if shape is not None:
        value = shape.lift(data, "the answer")
        return ANY.decode(shape.encode(value, "the answer"), "the answer")
    plain = plain_of(data)
    found = problems(form.schema, jsonable(plain))
    if found:
        raise DoesNotFit(found)
    return plain


def _shape_here(form: InputForm) -> Shape | None:
    """The shape of the answer's class, where this process has imported that class, with these fields."""
    module, _, name = form.type.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    if not name or not isinstance(found, type):
        return None
    shape = shape_of(found)
    return shape if shape.json_schema() == form.schema else None


def problems_of(error: BaseException) -> list[Problem]:
    """What pydantic said, wherever it stands behind an error of ours."""
    cause: BaseException | None = error
    while cause is not None:
        errors: Any = getattr(cause, "errors", None)
        if callable(errors):
            found: Any = errors(include_url=False, include_context=False, include_input=False)
            return [problem(one["loc"], one["msg"], one["type"]) for one in found]
        cause = cause.__cause__
    return [problem((), str(error), "value_error")]
