"""A TCP proxy in front of PostgreSQL that breaks connections the way networks do.

`Proxy(server.url())` listens on a free port of 127.0.0.1 and passes everything on, until it is told to
cut connections with a reset, to swallow what is sent (a black hole), to be slow, or to cut a connection
after a statement was executed and before its answer is delivered: the unknown outcome, made on purpose.

It runs on an event loop in a thread of its own; its verbs may be called from anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

__all__ = ["Cut", "Proxy", "Statement"]

T = TypeVar("T")

_CHUNK: Final = 65_536
_ENCRYPTION_REQUESTS: Final = frozenset({80877103, 80877104})
"""Codes with which a client asks for TLS or GSSAPI: refused, so that the proxy can read along."""
_END_SECONDS: Final = 5.0
"""How long connections that were cut may take to end."""
_CANCEL_REQUEST: Final = 80877102
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset instead of an orderly end."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a client asks the server to execute."""

    text: str
    application: str
    """The client's `application_name`."""


class Cut:
    """A cut that waits for its statement, and tells when it was made."""

    def __init__(self, matches: Callable[[Statement], bool]) -> None:
        self._matches = matches
        self._done = threading.Event()
        self.statement: Statement | None = None
        """The statement whose answer was never delivered."""

    @property
    def made(self) -> bool:
        """Whether the connection was cut."""
        return self._done.is_set()

    def wait(self, timeout: float) -> bool:
        """Block until the cut was made, for `timeout` seconds; whether it was."""
        return self._done.wait(timeout)

    def wanted(self, statements: list[Statement]) -> Statement | None:
        """The first of these statements that it waits for."""
        return next((one for one in statements if self._matches(one)), None)

    def make(self, statement: Statement) -> None:
        """The proxy's: the connection was cut after this statement."""
        self.statement = statement
        self._done.set()


@dataclass(slots=True)
class _Cycle:
    """What is asked up to a Sync, and is answered up to the next ReadyForQuery."""

    cut: Cut | None = None
    statement: Statement | None = None
    withheld: list[bytes] = field(default_factory=list[bytes])
    failed: bool = False


class _Faults:
    """What all connections suffer from."""

    def __init__(self) -> None:
        self.cuts: list[Cut] = []
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.delay = 0.0

    def heal(self) -> None:
        """Neither slow nor a black hole any more; cuts go on waiting."""
        self.delay = 0.0
        self.flowing.set()

    async def hold_up(self) -> None:
        """What every bunch of bytes goes through."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await self.flowing.wait()

    def cycle_for(self, statements: list[Statement]) -> _Cycle:
        """A cycle for these statements, with the cut that waits for one of them."""
        for cut in self.cuts:
            found = cut.wanted(statements)
            if found is not None:
                self.cuts.remove(cut)
                return _Cycle(cut, found)
        return _Cycle()


class Proxy:
    """Stands between clients and the server at `url`; a context manager, or `start()` and `close()`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()
        self._faults = _Faults()
        self.port = 0
        self.accepted = 0
        """Connections that were ever accepted."""

    def __enter__(self) -> Self:
        """Start listening."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening and reset what is open."""
        self.close()

    def start(self) -> None:
        """Listen on a free port."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="durable-proxy", daemon=True
            )
            self._thread.start()
            self._call(self._listen())

    def close(self) -> None:
        """Stop listening and reset what is open. May be called twice."""
        if self._thread is not None:
            self._call(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None
            self._loop.close()

    def url(self, url: str) -> str:
        """The URL of a database of the server, led through this proxy."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        place = f"127.0.0.1:{self.port}"
        return parts._replace(netloc=f"{user}@{place}" if user else place).geturl()

    # -- faults

    def cut_answer(self, matches: Callable[[Statement], bool]) -> Cut:
        """Cut the next connection that executes a matching statement: after the server has answered it, before the client hears.

        An answer that is an error is delivered, and the cut goes on waiting: nothing was executed.
        """
        cut = Cut(matches)
        self._call(self._now(lambda: self._faults.cuts.append(cut)))
        return cut

    def withdraw(self, cut: Cut) -> None:
        """Do not make this cut any more."""
        cuts = self._faults.cuts
        self._call(self._now(lambda: cuts.remove(cut) if cut in cuts else None))

    def reset(self, application: str = "") -> int:
        """Cut every connection, or those whose application name begins so, with a reset; how many."""
        return self._call(self._now(lambda: self._reset(application)))

    def black_hole(self) -> None:
        """From now on pass nothing on, in either direction, and let connections hang half open."""
        self._call(self._now(self._faults.flowing.clear))

    def heal(self) -> None:
        """End a black hole and slowness; what was held back flows again."""
        self._call(self._now(self._faults.heal))

    def delay(self, seconds: float) -> None:
        """Hold everything up by `seconds`, in each direction."""
        self._call(self._now(lambda: setattr(self._faults, "delay", seconds)))

    # -- on the loop

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _now(self, work: Callable[[], T]) -> T:
        return work()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=500)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._faults.heal()
        self._reset("")
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        if others:
            await asyncio.wait(others, timeout=_END_SECONDS)

    def _reset(self, application: str) -> int:
        chosen = [one for one in self._sessions if one.application.startswith(application)]
        for session in chosen:
            session.reset()
        return len(chosen)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        session = _Session(self._faults, reader, writer)
        self._sessions.add(session)
        try:
            await session.run(self._target)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side is gone; the other learns it now
        finally:
            self._sessions.discard(session)
            session.reset()


class _Session:
    """One client and its connection to the server."""

    def __init__(
        self, faults: _Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._faults = faults
        self._from_client = reader
        self._to_client = writer
        self._to_server: asyncio.StreamWriter | None = None
        self._texts: dict[bytes, str] = {}
        self._bound = ""
        self._asked: list[Statement] = []
        self._cycles: deque[_Cycle] = deque([_Cycle()])
        self.application = ""

    async def run(self, target: tuple[str, int]) -> None:
        """Pass on until one side ends."""
        startup = await self._startup()
        from_server, self._to_server = await asyncio.open_connection(*target)
        self._to_server.write(startup)
        up = asyncio.create_task(self._pass_up(self._to_server))
        down = asyncio.create_task(self._pass_down(from_server))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    def reset(self) -> None:
        """Cut both sides, the client's with a reset."""
        with contextlib.suppress(OSError, AttributeError):
            raw = self._to_client.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._to_client.transport.abort()
        if self._to_server is not None:
            self._to_server.transport.abort()

    async def _startup(self) -> bytes:
        """The client's first message: it names itself, after being refused encryption."""
        while True:
            await self._faults.hold_up()
            head = await self._from_client.readexactly(8)
            length, code = struct.unpack("!II", head)
            body = await self._from_client.readexactly(length - 8)
            if code not in _ENCRYPTION_REQUESTS:
                break
            self._to_client.write(b"N")
        if code != _CANCEL_REQUEST:
            words = body.split(b"\0")
            given = dict(zip(words[::2], words[1::2], strict=False))
            self.application = given.get(b"application_name", b"").decode(errors="replace")
        return head + body

    async def _pass_up(self, to_server: asyncio.StreamWriter) -> None:
        buffer = bytearray()
        while chunk := await self._from_client.read(_CHUNK):
            await self._faults.hold_up()
            buffer += chunk
            for kind, frame in _frames(buffer):
                self._read_along(kind, frame)
                to_server.write(frame)
            await to_server.drain()

    def _read_along(self, kind: int, frame: bytes) -> None:
        if kind == ord("P"):
            name, text = frame[5:].split(b"\0", 2)[:2]
            self._texts[name] = text.decode(errors="replace")
        elif kind == ord("B"):
            self._bound = self._texts.get(frame[5:].split(b"\0", 2)[1], "")
        elif kind == ord("E"):
            self._asked.append(Statement(self._bound, self.application))
        elif kind == ord("Q"):
            self._asked.append(Statement(frame[5:-1].decode(errors="replace"), self.application))
        if kind in b"QS":
            self._cycles.append(self._faults.cycle_for(self._asked))
            self._asked = []

    async def _pass_down(self, from_server: asyncio.StreamReader) -> None:
        buffer = bytearray()
        while chunk := await from_server.read(_CHUNK):
            await self._faults.hold_up()
            buffer += chunk
            for kind, frame in _frames(buffer):
                if not self._deliver(kind, frame):
                    return
            await self._to_client.drain()

    def _deliver(self, kind: int, frame: bytes) -> bool:
        """Give the client a message of the server's, or keep it; False: the connection ends here."""
        cycle = self._cycles[0] if self._cycles else _Cycle()
        if cycle.cut is None:
            self._to_client.write(frame)
        else:
            cycle.withheld.append(frame)
            cycle.failed |= kind == ord("E")
        if kind == ord("Z") and self._cycles:
            self._cycles.popleft()
            return self._end(cycle)
        return True

    def _end(self, cycle: _Cycle) -> bool:
        if cycle.cut is None or cycle.statement is None:
            return True
        if cycle.failed:
            self._to_client.writelines(cycle.withheld)
            self._faults.cuts.append(cycle.cut)
            return True
        self.reset()
        cycle.cut.make(cycle.statement)
        return False


def _frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the complete messages out of a buffer: one byte of kind, four of length, the rest."""
    while len(buffer) >= 5:
        size = 1 + int.from_bytes(buffer[1:5], "big")
        if len(buffer) < size:
            return
        frame = bytes(buffer[:size])
        del buffer[:size]
        yield frame[0], frame
