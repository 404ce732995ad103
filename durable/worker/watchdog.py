"""Tells when user code blocks the event loop: with the stack that does it, once per stall."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

_log = logging.getLogger("durable.worker")
LIMIT_SECONDS = 1.0
"""How long the loop may be silent before its stack is reported."""


class Watchdog:
    """A thread that expects a sign of life from an event loop."""

    def __init__(self, limit: float = LIMIT_SECONDS) -> None:
        self._limit = limit
        self._seen = time.monotonic()
        self._stop = threading.Event()
        self._thread_id = 0
        self._handle: asyncio.TimerHandle | None = None
        self.stalls = 0
        """How often the loop was blocked for longer than the limit."""
        self.last_stack = ""

    def start(self) -> None:
        """Watch the running loop, from a thread of its own."""
        self._thread_id = threading.get_ident()
        self._tick()
        threading.Thread(target=self._watch, name="durable-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self._seen = time.monotonic()
        self._handle = asyncio.get_running_loop().call_later(self._limit / 4, self._tick)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stop.wait(self._limit / 4):
            seen = self._seen
            silent = time.monotonic() - seen
            if silent > self._limit and seen != reported:
                reported = seen
                self._report(silent)

    def _report(self, silent: float) -> None:
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001  the stack of another thread
        if frame is None:
            return
        self.stalls += 1
        self.last_stack = "".join(traceback.format_stack(frame))
        text = (
            "the event loop has been blocked for %.1f s; no run of this worker moves meanwhile. "
            "A blocking function belongs into a sync step, which runs in a thread. It is at\n%s"
        )
        _log.error(text, silent, self.last_stack)
