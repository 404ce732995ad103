"""What clients and handles cannot do yet: asked for, it is refused by name, never accepted and ignored."""

from __future__ import annotations

_NOT_BUILT = {
    **dict.fromkeys(("retry", "fork"), "retrying and forking runs"),
    **dict.fromkeys(("stream", "watch"), "live topics"),
    **dict.fromkeys(("enqueue",), "jobs"),
    **dict.fromkeys(("workflows", "workers"), "the catalogue"),
    "cleanup": "retention",
    "schedules": "schedules",
    "queues": "queue administration",
    "flows": "flows",
    "secrets": "secrets",
}


def refuse(what: str, name: str) -> AttributeError | NotImplementedError:
    """The error for a name that `what` does not have: not built yet, or not known at all."""
    feature = _NOT_BUILT.get(name)
    if feature is None:
        return AttributeError(f"a {what} has no {name!r}")
    return NotImplementedError(f"{what}.{name}: {feature} cannot be used yet")


def refuse_options(verb: str, **asked: object) -> None:
    """`NotImplementedError` for an option of `verb` that is given and cannot be obeyed yet."""
    for option, value in asked.items():
        if value is not None:
            message = f"{verb}({option}=) cannot be used yet"
            raise NotImplementedError(message)
