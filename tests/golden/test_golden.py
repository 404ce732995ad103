"""Histories of earlier releases, replayed in this process and in others.

That each of them is replayed in one go is a test of its own: the plugin collects them.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from durable.model.history import CommandEvent
from durable.model.history_file import HistoryFile, load_history
from durable.model.wire import decode_event
from durable_testing.replaying import workflow_of
from tests.golden import changed, record, scenarios
from tests.golden.pythons import OWN, ROOT, SUPPORTED, python_of
from tests.golden.replaying import (
    DIFFERENT,
    HISTORIES,
    answer,
    goldens,
    replayed_at_once,
    replayed_with_evictions,
)
from tests.golden.workflows import MODULES

GOLDENS = goldens()
SEEDS = ["0", "1", "random"]
ZONES = ["UTC", "Australia/Lord_Howe", "Asia/Kathmandu"]
MODULE_OF_CHANGES = changed.__name__


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """What each history comes to in this process."""
    return {name: answer(file) for name, file in GOLDENS.items()}


# -- what is there


def test_every_scenario_has_its_history_of_this_release():
    folder = HISTORIES / record.release()
    assert record.missing(folder) == [], "make goldens"


def test_what_is_recorded_is_never_written_again(tmp_path, monkeypatch):
    names = list(scenarios.SCENARIOS)[:2]
    monkeypatch.setattr(record, "SCENARIOS", {name: scenarios.SCENARIOS[name] for name in names})
    kept = record.file_of(tmp_path, names[0])
    kept.write_text("as it was")
    assert record.record(tmp_path) == names[1:]
    assert record.record(tmp_path) == []
    assert kept.read_text() == "as it was"
    assert load_history(record.file_of(tmp_path, names[1]).read_text()).run_id == names[1]


@pytest.mark.parametrize("name", scenarios.SCENARIOS)
async def test_every_scenario_still_leads_to_a_history_that_replays(name):
    file = load_history(await scenarios.play(name))
    assert not answer(file).startswith(DIFFERENT), answer(file)


# -- replaying


@pytest.mark.parametrize("name", GOLDENS)
def test_a_history_replays_with_an_eviction_before_every_event(answers, name):
    assert not answers[name].startswith(DIFFERENT), answers[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "version, seed, zone",
    [
        pytest.param(
            version,
            seed,
            zone,
            # Each seed and each zone once; all of one with all of the other is for a campaign.
            marks=[] if SEEDS.index(seed) == ZONES.index(zone) else pytest.mark.campaign,
        )
        for version, seed, zone in product(SUPPORTED, SEEDS, ZONES)
    ],
)
def test_every_history_replays_in_another_process(answers, version, seed, zone):
    """On another Python, with other hashes, where clocks show another time."""
    assert elsewhere(version, seed, zone) == answers


def elsewhere(version: str, seed: str, zone: str, *modules: str) -> dict[str, str]:
    """What each history comes to in a process of its own."""
    python = python_of(version)
    if python is None:
        pytest.skip(f"no environment of Python {version}: make replay-everywhere")
    done = subprocess.run(
        [python, "-W", "error", "-m", "tests.golden.replaying", *modules],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "TZ": zone},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


# -- that a change is noticed


def of_changed_workflows() -> dict[str, HistoryFile]:
    return {name: file for name, file in GOLDENS.items() if file.workflow in changed.CHANGED}


@pytest.mark.parametrize("name", of_changed_workflows())
def test_changed_code_is_noticed_here(name):
    file = GOLDENS[name]
    workflow = workflow_of(file, [MODULE_OF_CHANGES])
    for way in (replayed_at_once, replayed_with_evictions):
        assert "no longer matches its history" in way(workflow, file)


@pytest.mark.slow
def test_changed_code_is_noticed_in_another_process_and_nothing_else(answers):
    found = elsewhere(OWN, "1", "UTC", MODULE_OF_CHANGES)
    differ = {name for name, told in found.items() if told != answers[name]}
    assert differ == set(of_changed_workflows())
    assert all(found[name].startswith(DIFFERENT) for name in differ)


def test_changed_code_is_noticed_where_histories_are_collected(tmp_path: Path):
    """The file is a test, which fails."""
    file = HISTORIES / record.release() / "step_async_and_sync.history.json"
    (tmp_path / file.name).write_text(file.read_text())
    for module, outcome in ((MODULES[0], "1 passed"), (MODULE_OF_CHANGES, "1 failed")):
        (tmp_path / "pytest.ini").write_text(f"[pytest]\ndurable_workflows = {module}\n")
        done = subprocess.run(
            [python_of(OWN), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert outcome in done.stdout


def renamed(file: HistoryFile) -> HistoryFile | None:
    """A history that says another name for the first thing that its run has asked for."""
    for place, row in enumerate(file.rows):
        event = decode_event(row)
        if isinstance(event, CommandEvent) and event.kind != "timer" and row.name:
            other = replace(row, name="something-else")
            return replace(file, rows=[*file.rows[:place], other, *file.rows[place + 1 :]])
    return None


def test_another_name_is_noticed_in_every_history():
    """But where all that was asked for is time, or was there before it was asked for."""
    unnamed = set()
    for name, file in GOLDENS.items():
        other = renamed(file)
        if other is None:
            unnamed.add(file.run_id)
            continue
        workflow = workflow_of(file, MODULES)
        for way in (replayed_at_once, replayed_with_evictions):
            assert way(workflow, other).startswith(DIFFERENT), name
    assert unnamed == {
        "time_sleeps",
        "time_sleeps_until",
        "event_that_came_early",
        "to_be_cancelled",
    }
