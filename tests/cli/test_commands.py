"""The commands against a real database and a real worker."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from durable.cli import main
from durable.model.history_file import load_history


@pytest.fixture(scope="module")
def greeted(shop) -> str:
    """The shop after one run, `greet-ada`."""
    assert main(["run", "greet", '"Ada"', "--id", "greet-ada", "--url", shop]) == 0
    return shop


# -- run


def test_run_prints_the_result_as_json_and_the_rest_beside_it(durable, shop):
    answer = durable("run", "greet", '"Ada"', "--id", "run-1", "--url", shop)
    assert (answer.code, answer.out, answer.err) == (0, '"hello Ada"\n', "started greet run-1\n")


def test_run_finds_a_run_that_exists(durable, shop):
    durable("run", "greet", '"Ada"', "--id", "run-2", "--url", shop)
    answer = durable("run", "greet", '"Ada"', "--id", "run-2", "--json", "--url", shop)
    assert answer.json == {"id": "run-2", "result": "hello Ada"}
    assert answer.err == ""


def test_run_takes_its_input_from_a_file_or_stdin(durable, shop, tmp_path, monkeypatch):
    (tmp_path / "name.json").write_text('"File"')
    assert durable("run", "greet", f"@{tmp_path}/name.json", "--url", shop).out == '"hello File"\n'
    monkeypatch.setattr("sys.stdin", io.StringIO('"Ada"'))
    assert durable("run", "greet", "-", "--url", shop).out == '"hello Ada"\n'


def test_a_run_that_fails_is_one_line_and_exit_code_1(durable, shop):
    answer = durable("run", "refuse", '"no entry"', "--id", "run-3", "--url", shop)
    assert answer.code == 1
    assert answer.err.splitlines()[1:] == ["error: run run-3 failed: PermissionError: no entry"]


def test_a_run_that_fails_is_json_where_json_was_asked_for(durable, shop):
    answer = durable("run", "refuse", '"no"', "--json", "--url", shop)
    assert answer.code == 1
    assert answer.json["error"]["message"] == "no"


def test_waiting_too_long_leaves_the_run_alone(durable, shop):
    answer = durable("run", "hibernate", "--id", "run-4", "--timeout", "0.2", "--url", shop)
    assert answer.code == 1
    assert "the run goes on: durable inspect run-4" in answer.err
    assert durable("list", "--workflow", "hibernate", "--url", shop).out.count("run-4") == 1


def test_detached(durable, shop):
    answer = durable("run", "greet", '"Ada"', "--detach", "--url", shop)
    assert answer.code == 0
    assert durable("inspect", answer.id, "--url", shop).out.startswith("greet  ")
    answer = durable("run", "greet", '"A"', "--id", "run-5", "--detach", "--json", "--url", shop)
    assert answer.json == {"id": "run-5", "created": True}


def test_tags_are_kept(durable, shop):
    durable(
        "run", "greet", '"A"', "--id", "run-6", "--tag", "shop=eu", "--tag", "n=1", "--url", shop
    )
    assert durable("inspect", "run-6", "--json", "--url", shop).json["tags"] == {
        "shop": "eu",
        "n": "1",
    }


# -- list, inspect, history


def test_list_of_an_empty_database(durable, durable_sqlite):
    answer = durable("list", "--url", durable_sqlite)
    assert (answer.code, answer.out, answer.err) == (0, "", "no runs\n")
    assert durable("list", "--json", "--url", durable_sqlite).json == {"items": [], "next": None}


def test_list_shows_and_filters(durable, greeted):
    listed = durable("list", "--status", "completed", "--workflow", "greet", "--url", greeted)
    assert listed.out.splitlines()[0].split() == [
        "ID",
        "WORKFLOW",
        "STATUS",
        "STARTED",
        "TOOK",
        "WAITS",
        "FOR",
    ]
    assert "greet-ada" in listed.out
    nothing = durable("list", "--status", "terminated", "--url", greeted)
    assert (nothing.code, nothing.err) == (0, "no such runs\n")


def test_list_goes_on_where_a_page_ended(durable, greeted):
    for name in ("page-1", "page-2"):
        durable("run", "greet", '"A"', "--id", name, "--url", greeted)
    first = durable("list", "--limit", "1", "--json", "--url", greeted).json
    second = durable(
        "list", "--limit", "1", "--after", first["next"], "--json", "--url", greeted
    ).json
    assert [first["items"][0]["id"], second["items"][0]["id"]] == ["page-2", "page-1"]


def test_inspect_tells_and_draws(durable, greeted):
    lines = durable("inspect", "greet-ada", "--url", greeted).out.splitlines()
    assert lines[0].startswith("greet  greet-ada  completed  took ")
    assert [line.split()[0] for line in lines[2:4]] == ["workers", "compose"]
    assert lines[-2:] == ["  input    Ada", "  result   hello Ada"]


def test_inspect_of_a_failed_run_shows_the_error(durable, greeted):
    durable("run", "refuse", '"no entry"', "--id", "failed-1", "--url", greeted)
    assert (
        "error    PermissionError: no entry" in durable("inspect", "failed-1", "--url", greeted).out
    )


def test_inspect_as_json_has_run_steps_and_history(durable, greeted):
    run = durable("inspect", "greet-ada", "--json", "--url", greeted).json
    assert run["result"] == "hello Ada"
    assert [step["name"] for step in run["steps"]] == ["compose"]
    assert [event["type"] for event in run["history"]] == [
        "RunStarted",
        "StepCompleted",
        "RunCompleted",
    ]


def test_history(durable, greeted):
    lines = durable("history", "greet-ada", "--url", greeted).out.splitlines()
    assert [line.split()[0] for line in lines] == ["SEQ", "1", "2", "3"]
    assert "result hello Ada, took " in lines[2]
    some = durable(
        "history", "greet-ada", "--after", "1", "--limit", "1", "--json", "--url", greeted
    )
    assert [event["seq"] for event in some.json] == [2]


def test_a_unique_beginning_of_an_id_is_enough(durable, greeted):
    assert "greet-ada" in durable("inspect", "greet-a", "--url", greeted).out


def test_an_id_that_begins_others_means_itself(durable, greeted):
    for name in ("twin", "twin-2"):
        durable("run", "greet", '"A"', "--id", name, "--url", greeted)
    assert durable("inspect", "twin", "--json", "--url", greeted).json["id"] == "twin"
    answer = durable("inspect", "twi", "--url", greeted)
    assert answer.code == 2
    assert "the beginning of several ids: twin-2, twin" in answer.err


def test_an_unknown_id(durable, greeted):
    answer = durable("history", "nobody", "--url", greeted)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "error: there is no run whose id is or begins with 'nobody'\n"


# -- migrate


def test_migrations_before_and_after(durable, durable_sqlite):
    before = durable("migrations", "--check", "--url", durable_sqlite)
    assert before.code == 1
    assert "missing: run `durable migrate`" in before.err
    assert durable("migrate", "--url", durable_sqlite).code == 0
    assert durable("migrate", "--url", durable_sqlite).out == "nothing to do\n"
    after = durable("migrations", "--check", "--json", "--url", durable_sqlite)
    assert after.code == 0
    assert all(step["applied"] for step in after.json)


# -- misuse


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["list"], "no database: give --url or set DURABLE_URL"),
        (["lst"], "No such command 'lst'"),
        (["list", "--status", "broken", "--url", "x"], "Invalid value for '--status'"),
        (["run", "greet", "{a", "--url", "x"], "not JSON"),
        (["run", "greet", "@/no/file", "--url", "x"], "cannot read /no/file: No such file"),
        (["run", "greet", "--tag", "x", "--url", "x"], "'x' is not a new KEY=VALUE"),
        (["worker", "--url", "x"], "Missing argument 'MODULE...'"),
        (["worker", "no_such_module", "--url", "x"], "there is no module 'no_such_module'"),
        (["worker", "json", "--url", "x"], "nothing to serve"),
        (["worker", "json:dumps"], "'dumps' in json is not a Worker"),
        (["worker", "json:dumps", "os"], "give nothing else with it"),
        (
            ["worker", "durable.cli.demo", "--queue", "a:0", "--url", "x"],
            "is not NAME or NAME:SLOTS",
        ),
    ],
)
def test_misuse_is_exit_code_2_and_one_line_with_a_hint(durable, arguments, says):
    answer = durable(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    error, *hint = answer.err.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert all(line.startswith("hint: ") for line in hint)


def test_a_database_that_is_not_there_is_one_line(durable, tmp_path):
    answer = durable("list", "--url", f"sqlite:///{tmp_path}/no/such/folder/x.db")
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) == 1


def test_what_nobody_expected_is_one_line_and_a_hint(durable, durable_sqlite, monkeypatch):
    monkeypatch.setattr("durable.cli.runs._row", lambda run: 1 / 0)
    durable("run", "x", "--detach", "--url", durable_sqlite)
    answer = durable("list", "--url", durable_sqlite)
    assert answer.code == 1
    assert answer.err.splitlines() == [
        "error: ZeroDivisionError: division by zero",
        "hint: DURABLE_DEBUG=1 shows the traceback",
    ]
    monkeypatch.setenv("DURABLE_DEBUG", "1")
    assert "Traceback" in durable("list", "--url", durable_sqlite).err


def test_the_url_may_come_from_the_environment(durable, greeted, monkeypatch):
    monkeypatch.setenv("DURABLE_URL", greeted)
    assert "greet-ada" in durable("list", "--workflow", "greet").out


def test_a_reader_that_goes_away_is_no_error(greeted):
    """`durable history ID | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "durable.cli", "history", "greet-ada", "--url", greeted]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""


def test_a_history_is_exported_as_a_file_that_can_be_replayed(durable, greeted):
    answer = durable("history", "greet-ada", "--export", "--url", greeted)
    file = load_history(answer.out)
    assert (file.workflow, file.run_id) == ("greet", "greet-ada")
    assert [row.seq for row in file.rows] == list(range(1, len(file.rows) + 1))
    assert len(file.rows) == 3
    assert durable("history", "nobody", "--export", "--url", greeted).code == 1
