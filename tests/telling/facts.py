"""Histories written by hand: as much of each event as the command line reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Fact:
    """As much of a history event as the command line needs."""

    type: str
    at: datetime
    command: int | None = None
    name: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    seq: int = 0


def fact(seconds: float, type: str, command: int | None = None, name: str | None = None, **data):
    return Fact(type, START + timedelta(seconds=seconds), command, name, data)


def step(ended: float, took: float, command: int, name: str, **data) -> Fact:
    return fact(ended, "StepCompleted", command, name, took=int(took * 1e6), attempt=1, **data)


def numbered(*facts: Fact) -> list[Any]:
    """With the numbers that they have in a history."""
    for seq, each in enumerate(facts, 1):
        each.seq = seq
    return list(facts)
