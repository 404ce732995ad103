"""Functions of Python's library, written in C, that no replay can repeat: every way to them ends there.

`uuid4()`, `random.choice()`, `Path.read_text()`, `subprocess.run()` and what else is written in Python come to one
of these, so they need not be listed. The codes are those of `durable lint`.
"""

from __future__ import annotations

import _socket
import _thread
import _uuid  # type: ignore[import-not-found]  # a part of `uuid` that is not told of
import datetime as dt
import io
import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from opcode import opmap
from types import CodeType, FrameType
from typing import Any, Final

SEEDING: CodeType = random.Random.seed.__code__
"""It takes a seed from the machine where its `a` is None, as `Random()` does."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Why something must not be called in a workflow, and what to do instead."""

    code: str
    happens: str
    write: str


CLOCK = Kind("DUR101", "reads the clock, which a replay finds at another time", "write ctx.now()")
RANDOM = Kind("DUR102", "draws other numbers on every replay", "write ctx.random")
UUID = Kind("DUR103", "is another id on every replay", "write ctx.uuid()")
SECRET = Kind("DUR104", "is another secret on every replay", "draw it in a step")
SLEEP = Kind("DUR201", "stops every run of the worker", "write `await ctx.sleep(...)`")
NETWORK = Kind("DUR202", "talks to the world again on every replay", "do it in a step")
FILES = Kind("DUR203", "touches files again on every replay", "do it in a step")
PROCESSES = Kind("DUR204", "acts on processes again on every replay", "do it in a step")
THREADS = Kind("DUR205", "cannot be replayed", "make it a step: a sync one runs in a thread")
LOG = Kind("DUR207", "says it again on every replay", "write ctx.log, which is silent then")

BY_MODULE: Mapping[str, Kind] = {
    "logging": LOG,
    "structlog": LOG,
    "loguru": LOG,
    "uuid": UUID,
    "secrets": SECRET,
    "subprocess": PROCESSES,
}
"""What a call is that goes through one of these modules, whatever it comes to in the end."""

_IN_MODULES: tuple[tuple[Kind, object, str], ...] = (
    (
        CLOCK,
        time,
        (
            "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns"
            " thread_time thread_time_ns clock_gettime clock_gettime_ns"
        ),
    ),
    (CLOCK, time, "localtime gmtime ctime asctime strftime"),
    (CLOCK, dt.datetime, "now utcnow today"),
    (CLOCK, dt.date, "today"),
    (RANDOM, random._inst, "random getrandbits seed setstate"),  # noqa: SLF001
    (SECRET, os, "urandom getrandom"),
    (UUID, _uuid, "generate_time_safe"),
    (SLEEP, time, "sleep"),
    (
        NETWORK,
        _socket,
        "getaddrinfo gethostbyname gethostbyname_ex gethostbyaddr getnameinfo gethostname socketpair",
    ),
    (FILES, io, "open open_code"),
    (
        FILES,
        os,
        (
            "open read write listdir scandir stat lstat access mkdir remove unlink rename replace rmdir chmod chown"
            " link symlink readlink truncate utime getcwd chdir"
        ),
    ),
    (PROCESSES, os, "system fork forkpty execv execve posix_spawn posix_spawnp kill"),
    (PROCESSES, subprocess, "_fork_exec"),
    (THREADS, _thread, "start_new_thread start_joinable_thread"),
)

_CONVERTING: Mapping[object, int] = {
    time.localtime: 0,
    time.gmtime: 0,
    time.ctime: 0,
    time.asctime: 0,
    time.strftime: 1,
}
"""They read the clock with so many arguments; with one more, that is the time that they convert."""
_CALL: Final = opmap["CALL"]
"""The instruction that calls with a known number of arguments, which stands in the byte behind it."""

_CONNECTIONS = frozenset({"_socket", "_sqlite3", "sqlite3"})
_OF_SOCKETS = "connect connect_ex bind listen accept send sendall sendto recv recvfrom recv_into"
_OF_CONNECTIONS = frozenset({*_OF_SOCKETS.split(), "execute", "executemany", "commit"})
_OF_CLOCKS = frozenset({"now", "utcnow", "today"})


def _listed() -> Iterator[tuple[object, Kind]]:
    for kind, owner, names in _IN_MODULES:
        for name in names.split():
            function = getattr(owner, name, None)  # not every platform has all of them
            if function is not None:
                yield function, kind


_KINDS: Mapping[object, Kind] = dict(_listed())


def kind_of_call(function: Any) -> Kind | None:
    """Why a function written in C must not be called in a workflow; None where it may be."""
    kind = _KINDS.get(function)
    if kind is not None:
        return kind
    name = function.__name__
    if name in _OF_CONNECTIONS:
        return NETWORK if _is_connection(function) else None
    if name in _OF_CLOCKS:
        owner = function.__self__
        return CLOCK if isinstance(owner, type) and issubclass(owner, dt.date) else None
    return None


def is_given_a_time(function: Any, caller: FrameType) -> bool:
    """Whether a function that reads the clock only if no time is given has one.

    Where that cannot be told from the instruction that calls it (`localtime(*them)`), it is taken to have one.
    """
    fewest = _CONVERTING.get(function)
    if fewest is None:
        return False
    code, at = caller.f_code.co_code, caller.f_lasti
    return code[at] != _CALL or code[at + 1] > fewest


def _is_connection(function: Any) -> bool:
    """A method of a socket or of a database's connection, or what makes one."""
    return function.__module__ in _CONNECTIONS or any(
        base.__module__ in _CONNECTIONS for base in type(function.__self__).__mro__
    )
