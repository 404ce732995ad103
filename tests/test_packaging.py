"""What leaves this repository: the wheel, and how little of it is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = {"croniter", "jinja2", "psycopg", "psycopg_pool", "pydantic", "starlette", "uvicorn"}
"""Each costs 50 to 200 ms to import: never before somebody asks for what it does."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = target.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (entry,) = [entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}")]
    return wheel.read(entry).decode()


def test_the_wheel_holds_two_typed_packages_and_nothing_else(wheel):
    names = wheel.namelist()
    top = {name.partition("/")[0] for name in names}
    assert top - {next(name for name in top if name.endswith(".dist-info"))} == {
        "durable",
        "durable_testing",
    }
    assert {"durable/py.typed", "durable_testing/py.typed"} <= set(names)


def test_the_wheel_holds_every_file_of_the_schema(wheel):
    """A migration that is missing from the wheel is found here, not by the first user."""
    here = {
        f"durable/schema/{file.relative_to(ROOT / 'schema')}"
        for file in (ROOT / "schema").rglob("*")
        if file.is_file()
    }
    assert here == {name for name in wheel.namelist() if name.startswith("durable/schema/")}


def test_the_wheel_says_its_licence_and_its_entry_points(wheel):
    described = metadata(wheel, "METADATA")
    assert "License-Expression: MIT" in described
    assert "License-File: LICENSE" in described
    assert "Provides-Extra: postgres" in described
    entries = metadata(wheel, "entry_points.txt")
    assert "durable = durable.cli:main" in entries
    assert "durable = durable_testing.plugin" in entries


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after this code."""
    show = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    command = [sys.executable, "-c", code + show]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "code",
    [
        "import durable",
        "from durable.cli import main; main(['--version'])",
        "from durable.cli import main; main(['--help'])",
        "from durable.cli import main; main(['list', '--help'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code):
    assert not loaded_by(code) & HEAVY


def test_the_pytest_plugin_loads_nothing_but_pytest():
    """It is part of every test run of every project that has durable installed."""
    before = loaded_by("import pytest")
    assert loaded_by("import pytest; import durable_testing.plugin") - before == {"durable_testing"}


def test_the_version_is_the_one_of_the_package():
    code = "from durable.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "durable 0.1.0\n"
