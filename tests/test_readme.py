"""The README's example runs as it is written, and on PostgreSQL with only the URL changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def example() -> str:
    (code,) = re.findall(r"## Thirty lines\n\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    return code


def run(code: str, folder: Path) -> str:
    script = folder / "shop.py"
    script.write_text(code)
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_example_runs_as_written_and_finds_its_run_again(tmp_path: Path) -> None:
    assert run(example(), tmp_path) == "parcel-42-2\n"
    assert run(example(), tmp_path) == "parcel-42-2\n"


def test_the_example_runs_on_postgres_with_only_the_url_changed(
    tmp_path: Path, durable_postgres: str
) -> None:
    code = example()
    assert code.count('"sqlite:///shop.db"') == 1
    assert run(code.replace("sqlite:///shop.db", durable_postgres), tmp_path) == "parcel-42-2\n"


def test_the_test_runs_as_written_and_its_histories_are_tests_from_then_on(tmp_path: Path) -> None:
    """At most 25 lines; thirty days, a crash, a step that is not called, golden histories."""
    section = re.findall(r"## Test it\n(.*?)\n## ", README.read_text(), re.DOTALL)[0]
    workflow, test = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(test.splitlines()) <= 25
    (tmp_path / "expenses.py").write_text(workflow)
    (tmp_path / "test_expenses.py").write_text(test)
    [settings] = re.findall(r"```ini\n(.*?)```", section, re.DOTALL)
    (tmp_path / "pytest.ini").write_text(settings)
    # Some releases of pytest-asyncio warn where this is not said.
    options = ["--override-ini=asyncio_default_fixture_loop_scope=function"]
    assert "2 passed" in said_by_pytest(tmp_path, *options, "--durable-record", "golden")
    names = sorted(file.name for file in (tmp_path / "golden").iterdir())
    expected = [r"expense-in-time-\w{8}\.history\.json", r"expense-too-late-\w{8}\.history\.json"]
    assert all(re.fullmatch(*pair) for pair in zip(expected, names, strict=True)), names
    assert "4 passed" in said_by_pytest(tmp_path, *options)
    assert "2 passed" in said_by_pytest(tmp_path, *options, "golden")


def said_by_pytest(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *options]
    path = {**os.environ, "PYTHONPATH": str(README.parent)}
    done = subprocess.run(
        command, cwd=folder, env=path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("word", ["make demo", "make test"])
def test_the_two_commands_stand_in_the_readme(word: str) -> None:
    assert word in README.read_text()
