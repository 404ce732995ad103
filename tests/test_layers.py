"""The law of the house holds, and the reader that says so sees each way of breaking it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.layer_law import violations

ROOT = Path(__file__).parent.parent


def test_the_house_obeys_the_law():
    found = violations(ROOT)
    assert not found, "\n".join(["", *map(str, found)])


def found_in(root: Path, files: Mapping[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(violation) for violation in violations(root)]


LAWFUL = {
    "durable/__init__.py": "from durable.client import Client\nfrom durable.flow import Flow",
    "durable/errors.py": "from typing_extensions import Self",
    "durable/model/__init__.py": "",
    "durable/model/codec.py": "import msgpack, pydantic\nfrom durable.errors import DurableError",
    "durable/model/calendar.py": "from croniter import croniter",
    "durable/engine/context.py": "import logging\nfrom random import Random\nlogging.LoggerAdapter",
    "durable/engine/loop.py": "from datetime import datetime\nfrom durable.model import codec\n"
    "datetime.fromtimestamp(0)\nctx.now()",
    "durable/storage/base.py": "from ..model.codec import x",
    "durable/storage/postgres/store.py": "import psycopg\nfrom durable.storage import base",
    "durable/client/__init__.py": "from durable.storage.base import Storage",
    "durable/worker/worker.py": "from durable.client import Client\nimport durable.engine.loop",
    "durable/flow.py": "from durable.client import Client",
    "durable_testing/postgres.py": "import psycopg",
    "durable_testing/environment.py": "import durable\nfrom durable.engine import loop\nimport pytest",
    "durable/cli/__init__.py": "import durable\nfrom durable import Client\nfrom durable.cli import show",
    "durable/cli/show.py": "import click\nfrom durable.sync import Client\ndurable.Client",
}


def test_a_lawful_house_is_left_in_peace(tmp_path):
    assert found_in(tmp_path, LAWFUL) == []


@pytest.mark.parametrize(
    "file, text, says",
    [
        (
            "durable/model/a.py",
            "import os\nimport durable.engine.loop",
            "a.py:2: imports durable.eng",
        ),
        ("durable/model/a.py", "from durable.engine import loop", "only from the floors below"),
        (
            "durable/model/a.py",
            "def f():\n    from ..engine import loop",
            "a.py:2: imports durable.eng",
        ),
        (
            "durable/model/a.py",
            "if TYPE_CHECKING:\n from durable.worker import worker",
            "a.py:2: imp",
        ),
        ("durable/model/a.py", "import_module('durable.worker')", "imports durable.worker"),
        ("durable/model/a.py", "from durable import Client", "floor 2, durable on 5.5"),
        (
            "durable/engine/a.py",
            "from durable.storage import base",
            "floor 3, durable.storage on 3",
        ),
        (
            "durable/storage/a.py",
            "from durable.engine.loop import x",
            "floor 3, durable.engine on 3",
        ),
        ("durable/client/a.py", "import durable.worker.worker", "floor 4, durable.worker on 4"),
        (
            "durable/worker/a.py",
            "import durable_testing.postgres",
            "imports durable_testing.postgres",
        ),
        ("durable/cellar/a.py", "", "durable.cellar.a stands on no floor"),
        ("durable/cli/a.py", "from durable.storage.base import x", "uses public names only"),
        ("durable/cli/a.py", "from durable import storage", "uses public names only"),
        ("durable/cli/a.py", "from durable import _secret", "imports durable._secret"),
        (
            "durable/cli/a.py",
            "import durable\ndurable.storage.open()",
            "a.py:2: reaches into durable.st",
        ),
        ("durable/cli/a.py", "import durable_testing.faults", "uses public names only"),
        ("durable/web/a.py", "from durable.cli import show", "durable.web uses public names only"),
        (
            "durable/client/a.py",
            "import psycopg.rows",
            "psycopg lives only in durable.storage.post",
        ),
        ("durable/storage/a.py", "import msgpack", "msgpack lives only in durable.model"),
        ("durable/model/a.py", "import croniter", "croniter lives only in durable.model.calendar"),
        ("durable/model/a.py", "import click", "click lives only in durable.cli"),
        (
            "durable/worker/a.py",
            "from opentelemetry import trace",
            "lives only in durable.telemetry",
        ),
        ("durable/worker/a.py", "import requests", "every package from outside has its room"),
        ("durable/client/a.py", "import sqlite3", "sqlite3 lives only in durable.storage"),
        ("durable/engine/a.py", "import time", "the engine is pure"),
        ("durable/engine/a.py", "from os import path", "imports os"),
        ("durable/engine/a.py", "from random import Random", "imports random"),
        ("durable/engine/context.py", "from random import choice", "imports random"),
        ("durable/engine/context.py", "import logging\nlogging.info(1)", "imports logging"),
        (
            "durable/engine/a.py",
            "import datetime\ndatetime.datetime.now()",
            "a.py:2: reads datetime.n",
        ),
        (
            "durable/engine/a.py",
            "from datetime import date\ndate.today()",
            "a.py:2: reads date.today",
        ),
    ],
)
def test_a_breach_is_found(tmp_path, file, text, says):
    found = found_in(tmp_path, {**LAWFUL, file: text})
    assert len(found) == 1
    assert says in found[0]
    assert found[0].startswith(f"{file}:")


def test_a_circle_is_found_once_and_shown(tmp_path):
    """Also when one of its imports hides in a function and another one under TYPE_CHECKING."""
    circle = {
        "durable/model/a.py": "import durable.model.b",
        "durable/model/b.py": "def f():\n    from durable.model import c",
        "durable/model/c.py": "if TYPE_CHECKING:\n    from .a import A",
        "durable/model/d.py": "import durable.model.a",
    }
    (found,) = found_in(tmp_path, {**LAWFUL, **circle})
    assert found.startswith("durable/model/a.py:1: begins a circle")
    assert "durable.model.a -> durable.model.b -> durable.model.c -> durable.model.a" in found


def test_a_package_and_its_module_can_form_a_circle(tmp_path):
    circle = {
        "durable/model/__init__.py": "from durable.model.codec import x",
        "durable/model/codec.py": "from durable.model import y",
    }
    (found,) = found_in(tmp_path, {**LAWFUL, **circle})
    assert "durable.model -> durable.model.codec -> durable.model" in found


def test_two_circles_are_two_findings(tmp_path):
    circles = {
        "durable/model/a.py": "import durable.model.b",
        "durable/model/b.py": "import durable.model.a",
        "durable/worker/c.py": "import durable.worker.c",
    }
    found = found_in(tmp_path, {**LAWFUL, **circles})
    assert len(found) == 2
