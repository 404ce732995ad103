"""What a person may answer to a question of a fixed form: yes or no, or what was offered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

from durable.errors import DurableError
from durable.model.events import Decision
from durable.model.json_schema import Problem, problem
from durable.model.packing import LEAVES
from durable.model.shape import ANY
from durable.model.shapes import shape_of


class DoesNotFit(DurableError):
    """An answer is not what was asked for; `problems` says why."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = problems
        super().__init__(
            "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}".lstrip(": ") for p in problems)
        )


def plain_of(value: Any) -> Any:
    """A value as plain data: what reads back without its class."""
    if type(value) in LEAVES:
        return value
    shape = ANY if type(value) in (list, dict, tuple, set, frozenset) else shape_of(type(value))
    return ANY.decode(shape.encode(value, "answer"), "answer")


def jsonable(value: Any) -> Any:
    """Plain data as JSON has it."""
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - 95 ms, for who gives answers

    return to_jsonable_python(value, inf_nan_mode="strings", bytes_mode="base64")


# -- yes or no

_APPROVAL = frozenset({"approved", "comment"})


def approval_of(data: Any) -> tuple[bool, str | None]:
    """Whether it is a yes, and the comment: of true, false or `{"approved": ..., "comment": ...}`."""
    if isinstance(data, bool):
        return data, None
    if isinstance(data, Decision):
        return data.approved, data.comment
    if not isinstance(data, Mapping):
        message = 'Give true, false or {"approved": ..., "comment": ...}'
        raise DoesNotFit([problem((), message, "approval_type")])
    given = cast("Mapping[object, Any]", data)
    found = [
        problem((str(name),), "Unknown", "extra_forbidden") for name in given.keys() - _APPROVAL
    ]
    if "approved" not in given:
        found.append(problem(("approved",), "Field required", "missing"))
    elif not isinstance(given["approved"], bool):
        found.append(problem(("approved",), "Input should be true or false", "bool_type"))
    comment = given.get("comment")
    if comment is not None and not isinstance(comment, str):
        found.append(problem(("comment",), "Input should be a string", "string_type"))
    if found:
        raise DoesNotFit(found)
    return given["approved"], comment


# -- one or some of what was offered


def offered(choices: Any, verb: str) -> tuple[list[Any], list[str]]:
    """The values of a sequence, an Enum class or a mapping from value to label; and their labels."""
    if isinstance(choices, type) and issubclass(choices, Enum):
        values, labels = list[Any](choices), [member.name for member in choices]
    elif isinstance(choices, Mapping):
        given = cast("Mapping[Any, object]", choices)
        values, labels = list(given), [str(label) for label in given.values()]
    elif isinstance(choices, Sequence) and not isinstance(choices, str | bytes):
        values = list[Any](cast("Sequence[object]", choices))
        labels = [str(value) for value in values]
    else:
        message = f"{verb} offers a sequence, an Enum class or a mapping of labels, not {choices!r}"
        raise TypeError(message)
    if not values:
        message = f"{verb} offers nothing: give at least one choice"
        raise ValueError(message)
    return values, labels


def chosen(choices: Sequence[Any], data: Any, loc: Sequence[int] = ()) -> int:
    """Which of the (plain) choices was meant; as JSON has them is good enough."""
    answer = plain_of(data)
    for number, choice in enumerate(choices):
        if type(choice) is type(answer) and choice == answer:
            return number
    text = _json(answer)
    for number, choice in enumerate(choices):
        if _json(choice) == text:
            return number
    wanted = ", ".join(map(repr, choices))
    raise DoesNotFit([problem(loc, f"Input should be one of {wanted}", "enum")])


def several_chosen(choices: Sequence[Any], data: Any) -> list[int]:
    """Which of the choices were meant, in their own order; none is an answer too."""
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Sequence | set | frozenset):
        raise DoesNotFit([problem((), "Input should be a list", "list_type")])
    found: set[int] = set()
    wrong: list[Problem] = []
    for number, one in enumerate(cast("Sequence[Any]", data)):
        try:
            found.add(chosen(choices, one, (number,)))
        except DoesNotFit as error:
            wrong += error.problems
    if wrong:
        raise DoesNotFit(wrong)
    return sorted(found)


def _json(value: Any) -> str:
    return json.dumps(jsonable(value), sort_keys=True)
