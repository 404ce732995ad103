"""Where in the user's code something was asked for."""

from __future__ import annotations

import asyncio
import sys
from types import CodeType, FrameType
from typing import Any

from durable.engine.calls import Call
from durable.model.commands import Site

_OURS = __file__.rpartition("engine")[0]
_ASYNCIO = asyncio.__file__.rpartition("__init__")[0]
_DRIVEN = Call.send.__code__


def user_site(depth: int, border: CodeType) -> Site | None:
    """The nearest line, `depth` frames up or more, that is neither asyncio's nor durable's own.

    A call that became a task has no line of the user's above it, but knows where it was made. Nothing is
    looked for beyond `border`, the code that drives the run: None where there is only asyncio before it.
    """
    frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001  the stack is what is asked for
    while frame is not None and frame.f_code is not border:
        code = frame.f_code
        if code is _DRIVEN:
            call: Call = frame.f_locals["self"]
            return call.site
        if not code.co_filename.startswith((_OURS, _ASYNCIO)):
            return Site(code, frame.f_lineno)
        frame = frame.f_back
    return None


def where(task: asyncio.Task[Any]) -> str:
    """A task's name and the line at which it is, for messages."""
    coroutine: Any = task.get_coro()
    if isinstance(coroutine, Call):
        return f"{task.get_name()} ({coroutine.site})"
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return task.get_name()
    return f"{task.get_name()} ({frame.f_code.co_name}, {Site(frame.f_code, frame.f_lineno)})"
