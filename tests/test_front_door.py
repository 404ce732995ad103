"""`import durable`: every public name is there, and what is heavy waits until it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import durable

HEAVY = ("pydantic", "psycopg", "click", "croniter", "opentelemetry", "asyncio")


def test_every_name_is_there():
    assert sorted(durable.__all__) == sorted(set(durable.__all__))
    for name in durable.__all__:
        assert getattr(durable, name) is not None
    assert set(durable.__all__) <= set(dir(durable))


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="nope"):
        _ = durable.nope  # type: ignore[attr-defined]


def test_every_public_thing_says_what_it_is():
    for name in durable.__all__:
        value = getattr(durable, name)
        if getattr(value, "__module__", "").startswith("durable"):
            assert value.__doc__, name


def test_the_map_at_the_door_is_short():
    assert len((durable.__doc__ or "").splitlines()) <= 12


def test_importing_durable_and_defining_a_workflow_is_light():
    code = (
        "import sys, durable\n"
        "@durable.step(retry=3, timeout=5)\n"
        "def charge(n: int) -> int: return n\n"
        "@durable.workflow(version=2)\n"
        "async def fulfil(ctx, n: int) -> int: return n\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
