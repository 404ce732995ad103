"""What a piece of work costs the processor, told apart from what the test process costs besides."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of the work: the least of three tries, with the collector of cycles off.

    The collector walks every object of the whole test process, and how often it does so within
    the work depends on what other tests have left behind: it can triple the time of long work
    and not touch short work, which makes linear work look worse than it is.
    """
    return min(_once(work) for _ in range(3))


def _once(work: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    try:
        begun = time.process_time()
        work()
        return time.process_time() - begun
    finally:
        gc.enable()
