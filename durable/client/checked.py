"""What a client is given, looked at before anything is asked: ids, names, tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from durable.client.base import not_found
from durable.model.runnable import Runnable


def text_or_none(value: object, what: str) -> str | None:
    """`value`, if it is a string or None; `TypeError` names `what` it should have been."""
    return None if value is None else text(value, what)


def text(value: object, what: str) -> str:
    """`value`, if it is a string; `TypeError` names `what` it should have been."""
    if not isinstance(value, str):
        message = f"{what} must be a string, not {type(value).__name__}"
        raise TypeError(message)
    return value


def id_text(run_id: object) -> str:
    """The id of a run that may exist or not; `TypeError` for what is no string, say a `UUID`."""
    return text(run_id, "a run id")


def can_exist(run_id: str) -> bool:
    """Whether any run can have that id: no database keeps a NUL or a lone surrogate."""
    try:
        run_id.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in run_id


def asked_id(run_id: object) -> str:
    """The id of a run that is asked for; `TypeError`, and `RunNotFound` for one that no run can have."""
    found = id_text(run_id)
    if not can_exist(found):
        raise not_found(found)
    return found


def workflow_name(workflow: Runnable[Any, Any] | str | None, what: str) -> str | None:
    """The name of a workflow that is given itself or by its name; `TypeError` for anything else."""
    if isinstance(workflow, Runnable):
        return workflow.name
    if workflow is None or isinstance(cast("object", workflow), str):
        return workflow
    message = f"{what} must be a workflow or its name, not {workflow!r}"
    raise TypeError(message)


def checked_tags(tags: object, what: str) -> Mapping[str, str] | None:
    """Strings by strings, or None; else `TypeError`."""
    if tags is None:
        return None
    if not isinstance(tags, Mapping):
        message = f"{what} must map strings to strings, not be {type(tags).__name__}"
        raise TypeError(message)
    for key, value in cast("Mapping[object, object]", tags).items():
        if not isinstance(key, str) or not isinstance(value, str):
            message = f"{what} must map strings to strings, not {key!r} to {value!r}"
            raise TypeError(message)
    return cast("Mapping[str, str]", tags)
