"""Where in the user's code something was asked for."""

from __future__ import annotations

import asyncio
import sys

from durable.model.commands import Site

_OURS = __file__.rpartition("engine")[0]
_ASYNCIO = asyncio.__file__.rpartition("__init__")[0]


def user_site(depth: int) -> Site:
    """The nearest line, `depth` frames up or more, that is neither asyncio's nor durable's own."""
    frame = sys._getframe(depth)  # noqa: SLF001  the stack is what is asked for
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_OURS, _ASYNCIO)):
        frame = frame.f_back
    return Site(frame.f_code, frame.f_lineno)
