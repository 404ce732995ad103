"""`durable lint` as it is called: what it writes, and with what it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WRONG = """import time
from durable import Context, workflow

@workflow
async def f(ctx: Context):
    ctx.sleep(time.time())
"""
RIGHT = "x = 1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "right.py").write_text(RIGHT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_findings_are_lines_and_exit_code_1(durable, folder):
    answer = durable("lint", ".")
    assert answer.code == 1
    first, second, last = answer.out.splitlines()
    assert (
        first
        == "wrong.py:6:5: DUR301 `ctx.sleep(...)` does nothing until it is awaited: write `await`"
    )
    assert second.startswith("wrong.py:6:15: DUR101 `time.time()` reads the wall clock")
    assert last == "Found 2 problems."
    assert answer.err == ""


def test_nothing_found_is_exit_code_0(durable, folder):
    assert durable("lint", "right.py").out == "All checks passed!\n"
    assert durable("lint", "right.py").code == 0


def test_no_files_is_said(durable, tmp_path):
    answer = durable("lint", str(tmp_path))
    assert (answer.code, answer.out) == (0, "")
    assert "no Python files" in answer.err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["lint"], "Missing argument"),
        (["lint", "missing.py"], "does not exist"),
        (["lint", "right.py", "--select", "DUR7"], "no rule is called 'DUR7'"),
        (["lint", "right.py", "--ignore", ""], "no rule is called ''"),
        (["lint", "right.py", "--output-format", "xml"], "xml"),
    ],
)
def test_misuse_is_exit_code_2(durable, folder, arguments, says):
    answer = durable(*arguments)
    assert answer.code == 2
    assert says in answer.err


@pytest.mark.parametrize("options", [["--json"], ["--output-format", "json"]])
def test_json(durable, folder, options):
    answer = durable("lint", "wrong.py", *options)
    assert answer.code == 1
    assert answer.json[1] == {
        "code": "DUR101",
        "message": "`time.time()` reads the wall clock, which a replay finds at another time: write `ctx.now()`",
        "filename": "wrong.py",
        "location": {"row": 6, "column": 15},
        "end_location": {"row": 6, "column": 26},
    }
    empty = durable("lint", "right.py", *options)
    assert (empty.code, empty.json) == (0, [])


def test_annotations_for_github(durable, folder):
    answer = durable("lint", "wrong.py", "--output-format", "github")
    assert answer.code == 1
    assert answer.out.splitlines()[1] == (
        "::error title=durable (DUR101),file=wrong.py,line=6,col=15,endLine=6,endColumn=26::"
        "wrong.py:6:15: DUR101 `time.time()` reads the wall clock, which a replay finds at another time: "
        "write `ctx.now()`"
    )
    assert durable("lint", "right.py", "--output-format", "github").out == ""


def test_annotations_escape_what_has_a_meaning(durable, folder):
    odd = folder / "a,b%.py"
    odd.write_text(WRONG)
    answer = durable("lint", odd.name, "--output-format", "github")
    assert "file=a%2Cb%25.py,line=6" in answer.out


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--select", "DUR1"], ["DUR101"]),
        (["--select", "DUR101,DUR301"], ["DUR301", "DUR101"]),
        (["--ignore", "DUR3"], ["DUR101"]),
        (["--select", "DUR1", "--extend-select", "DUR301"], ["DUR301", "DUR101"]),
        (["--ignore", "DUR1", "--ignore", "DUR3"], []),
    ],
)
def test_rules_are_chosen_by_the_beginning_of_their_codes(durable, folder, options, expected):
    assert [
        each["code"] for each in durable("lint", "wrong.py", "--json", *options).json
    ] == expected


def test_comments_that_ignore_nothing_are_found_on_request(durable, folder):
    (folder / "right.py").write_text("x = 1  # durable: ignore[DUR101]\n")
    assert durable("lint", "right.py").code == 0
    answer = durable("lint", "right.py", "--extend-select", "DUR901")
    assert answer.out.startswith("right.py:1:8: DUR901 ")


def test_a_file_that_cannot_be_parsed_does_not_stop_the_others(durable, folder):
    (folder / "broken.py").write_text("def f(:\n")
    answer = durable("lint", ".")
    assert answer.code == 1
    assert answer.out.startswith("broken.py:1:7: DUR900 invalid syntax")
    assert answer.out.endswith("Found 3 problems.\n")


def test_nothing_of_what_is_checked_is_imported(folder):
    """The code would fail, and leave a file."""
    (folder / "loud.py").write_text("open('imported', 'w')\nraise SystemExit(7)\n")
    done = subprocess.run(
        [sys.executable, "-m", "durable.cli", "lint", "loud.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (folder / "imported").exists()


def test_the_linter_loads_no_engine_and_no_driver():
    """It runs before every commit: it must be quick to start."""
    code = "import sys, json, durable.cli, durable.lint; print(json.dumps(sorted(sys.modules)))"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert (
        not {"durable.engine", "durable.worker", "durable.storage", "psycopg", "pydantic"} & loaded
    )
