"""`@value`: a small class of fields that nobody changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """A slotted dataclass with equality and hash by content, frozen as type checkers see it.

    At run time the guard against assignment is left out: it makes a constructor seven times as slow, and
    several of these are made for every step of every run.
    """
    make: Callable[[type[T]], type[T]] = dataclass(slots=True, unsafe_hash=True)
    return make(cls)
