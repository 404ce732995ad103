"""Somebody else's services, untyped on purpose: they answer what a test tells them, and remember who asked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

CALLS: list[tuple[str, tuple[Any, ...]]] = []
"""Who was called with what, in order: `payments.charge`."""
ANSWERS: dict[str, Any] = {}
"""What a call gives back, or an exception to raise; a function is called with the arguments."""


class Service:
    """A client of a service: every method exists."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, verb: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        name = f"{self._name}.{verb}"

        async def call(*args: Any, **options: Any) -> Any:
            CALLS.append((name, (*args, *options.values())))
            answer = ANSWERS.get(name, name)
            if callable(answer) and not isinstance(answer, type):
                answer = answer(*args)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


payments: Any = Service("payments")
mailer: Any = Service("mailer")
shipping: Any = Service("shipping")
flights: Any = Service("flights")
hotels: Any = Service("hotels")
orders: Any = Service("orders")
users: Any = Service("users")
llm: Any = Service("llm")
docs: Any = Service("docs")
inventory: Any = Service("inventory")
reports: Any = Service("reports")
support: Any = Service("support")
subs: Any = Service("subs")
expenses: Any = Service("expenses")
