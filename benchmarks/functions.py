"""The user's side of every workload: the same functions run on both systems.

Only the standard library is imported, since this module is loaded in the virtual environment of each
system. The steps are trivial on purpose: what is measured is the price of durability, not of the work.
"""

from __future__ import annotations


async def add_one(n: int) -> int:
    """The step: one small argument in, one small result out, no I/O."""
    return n + 1


def check(result: object, steps: int) -> None:
    """Fail loudly when a run did not do all its steps: a fast wrong answer is worth nothing."""
    if result != steps:
        message = f"a run of {steps} steps answered {result!r}"
        raise AssertionError(message)
