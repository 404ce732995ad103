"""The plans of hot statements: the right index, whether PostgreSQL knows the tables' sizes or not.

A busy table that was small when last looked at is taken for one row. Plans must not depend on that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from durable.model.rows import Delivery, OutMessage
from durable.storage.postgres import arrays, batches
from tests.storage.postgres.players import (
    Player,
    event,
    finish,
    new_run,
    park,
    report,
    step,
    waits,
)

TABLES = frozenset({"runs", "history", "inbox", "inbox_keys", "waits", "publications", "topics"})
MANY = 3_000

_FILL = f"""
    insert into {{s}}.runs (id, lane, seq, created_at, ready_at, owner, epoch, status, finished_at)
    select 'filled-' || n, 1 + n % 3, 1, now(),
           case when n % 4 = 0 then now() - interval '1 s' when n % 4 = 1 then now() + interval '1 d' end,
           case when n % 4 = 2 then 1 end, 1, case when n % 4 = 3 then 'completed' else 'waiting' end,
           case when n % 4 = 3 then now() end
      from generate_series(1, {MANY}) n;
    insert into {{s}}.history (run_key, seq, at, type, data)
    select key, 1, now(), 1, '' from {{s}}.runs where id like 'filled-%';
    insert into {{s}}.inbox (run_key, n, name, data)
    select key, 1, 'm', '' from {{s}}.runs where id like 'filled-%'"""

_PUBLISHED = f"""
    insert into {{s}}.publications (key, name, until, data)
    select 'filled-' || n, 'paid', now() + interval '1 d', '' from generate_series(1, {MANY}) n"""


class Planner(Player):
    """Sees the plan of everything that it sends, inside functions too."""

    plans: list[dict[str, Any]]

    def watch(self) -> Planner:
        self.plans = []
        self("load 'auto_explain'")
        for setting in (
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_nested_statements = on",
            "auto_explain.log_analyze = on",
            "auto_explain.log_format = json",
            "client_min_messages = log",
        ):
            self(f"set {setting}")
        self.connection.add_notice_handler(self._keep)
        return self

    def _keep(self, notice: Any) -> None:
        text = notice.message_primary or ""
        if "plan:" in text:
            self.plans.append(json.loads(text.partition("plan:")[2])["Plan"])

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Every node of every plan since the last look."""
        return [node for plan in self.plans for node in _nodes(plan)]

    def scans(self) -> set[tuple[str, str, str]]:
        """Every `(table, kind of scan, index)` on a table of ours since the last look."""
        found = {scan for plan in self.plans for scan in _scans(plan) if scan[0] in TABLES}
        self.plans.clear()
        return found


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _scans(node: dict[str, Any], table: str = "") -> Iterator[tuple[str, str, str]]:
    table = node.get("Relation Name", table)
    if "Scan" in node["Node Type"]:
        index = node.get("Index Name", "")
        where = table or _table_of(index)
        if node["Node Type"] != "Bitmap Heap Scan":
            yield where, node["Node Type"], index
    for child in node.get("Plans", ()):
        yield from _scans(child, table if node["Node Type"].startswith("Bitmap") else "")


def _table_of(index: str) -> str:
    return next(
        (table for table in sorted(TABLES, key=len, reverse=True) if index.startswith(table)), ""
    )


@pytest.fixture(params=["unknown to the planner", "many rows", "few rows known"])
def planner(request, store, durable_postgres, worker, keys) -> Iterator[Planner]:
    player = Planner(store, durable_postgres)
    player("alter table {s}.runs set (autovacuum_enabled = off)")
    player("alter table {s}.history set (autovacuum_enabled = off)")
    if request.param == "few rows known":
        player("analyze")
    if request.param != "few rows known":
        for statement in _FILL.split(";"):
            player(statement)
    if request.param == "many rows":
        player("analyze")
    yield player.watch()
    player.close()


def test_a_batch_of_steps(planner, worker, keys):
    assert planner.append(worker, *(step(key) for key in keys)) == [0, 0, 0, 0]
    assert {(table, index) for table, _, index in planner.scans()} == {("runs", "runs_pkey")}


def test_a_batch_in_which_runs_end(planner, worker, keys):
    batch = [step(keys[0]), *(finish(key, consumed=1) for key in keys[1:])]
    assert planner.append_or_end(worker, *batch) == [0, 0, 0, 0]
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {("runs", "runs_pkey"), ("inbox", "inbox_pkey"), ("waits", "waits_pkey")}


def test_a_commit_in_full(planner, worker, keys):
    child = new_run("kid", parent_key=keys[1], parent_cmd=1)
    batch = [park(keys[0], consumed=0), step(keys[1], children=[child], messages=[report(keys[2])])]
    assert planner.commit(worker, *batch) == [0, 0]
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {("runs", "runs_pkey"), ("inbox", "inbox_pkey"), ("waits", "waits_pkey")}
    assert planner.commit(worker, *batch, wait=True) == [2, 3]


def test_a_claim(planner, worker, keys):
    planner.claim(worker, 50)
    used = {(table, index) for table, _, index in planner.scans()}
    assert used == {("runs", "runs_ready"), ("runs", "runs_pkey"), ("inbox", "inbox_pkey")}


def test_a_claim_passes_by_what_cannot_be_claimed(planner, worker, keys):
    """Runs that have ended, are owned or wait for a message are not in its index."""
    planner("analyze {s}.runs")
    [(indexed,)] = planner("select reltuples::int8 from pg_class where relname = 'runs_ready'")
    [(due,)] = planner(
        "select count(*) from {s}.runs where owner is null and ready_at is not null and hold = 0"
    )
    assert indexed == due


@pytest.mark.parametrize("patience", [0, 2000])
def test_messages(planner, keys, patience):
    letters = [Delivery(f"run-{i % 4}", "m", b"", f"key-{i}") for i in range(20)]
    planner(planner.texts.deliver, [None, *batches.delivery_arrays(letters), patience])
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {
        ("runs", "runs_pkey"),
        ("runs", "runs_id"),
        ("inbox_keys", "inbox_keys_pkey"),
    }


def test_a_reaper(planner, worker, keys):
    planner.reap()
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {
        ("runs", "runs_owned"),
        ("publications", "publications_until"),
        ("publications", "publications_pkey"),
    }


def test_what_an_owner_polls(planner, worker, keys):
    both = [arrays.int8s(keys), arrays.int8s([0] * len(keys))]
    planner(planner.texts.owned, [worker, None])
    planner(planner.texts.load, both)
    planner(planner.texts.inbox, both)
    kinds = {kind for _, kind, _ in planner.scans()}
    assert "Seq Scan" not in kinds


def test_waiting_for_results(planner, keys):
    planner(planner.texts.finished, [arrays.long_texts(["run-0", "filled-3"])])
    planner(planner.texts.existing, [arrays.long_texts(["run-0", "filled-3"])])
    assert not any("Seq" in kind for table, kind, _ in planner.scans() if table == "history")


def test_commits_that_begin_and_end_waits(planner, worker, keys):
    begin = [park(keys[0], waits=waits()), step(keys[1], waits=waits(key=None), ended_waits=[7])]
    assert planner.commit(worker, *begin) == [0, 0]
    assert planner.commit(worker, finish(keys[1], 2)) == [0]
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {("runs", "runs_pkey"), ("inbox", "inbox_pkey"), ("waits", "waits_pkey")}


def test_the_end_of_runs_without_waits_looks_for_none(planner, worker, keys):
    assert planner.commit(worker, *[finish(key) for key in keys]) == [0, 0, 0, 0]
    scans = [node for node in planner.nodes if "Scan" in node["Node Type"]]
    looks = [scan["Actual Loops"] for scan in scans if scan.get("Index Name") == "waits_pkey"]
    assert looks
    assert not any(looks)


def test_a_message_to_an_id(planner, worker, keys):
    letter = OutMessage("run-1", "m", b"")
    assert planner.commit(worker, step(keys[0], messages=[letter])) == [0]
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {
        ("runs", "runs_pkey"),
        ("runs", "runs_id"),
        ("inbox", "inbox_pkey"),
        ("waits", "waits_pkey"),
    }


def test_publications_and_those_who_wait(planner, worker, keys):
    planner("alter table {s}.publications set (autovacuum_enabled = off)")
    planner(_PUBLISHED)
    planner.commit(worker, park(keys[0], waits=waits()))
    planner.scans()
    assert planner.publish("paid", "refused") == [1, 0]
    planner.subscribe(keys[1], "paid", "refused")
    scans = planner.scans()
    assert not [scan for scan in scans if scan[1] == "Seq Scan"]
    used = {index for table, _, index in scans if table == "waits"}
    # By the key, or by the runs that are known already; the heap scan over either has no index of its own.
    assert used - {""} <= {"waits_key", "waits_pkey"}


def test_an_answer(planner, worker, keys):
    planner.commit(worker, park(keys[0], waits=waits(key=None)))
    planner.scans()
    assert planner.answer_question("run-0", "ada")[0]
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {
        ("runs", "runs_pkey"),
        ("runs", "runs_id"),
        ("waits", "waits_pkey"),
        ("inbox_keys", "inbox_keys_pkey"),
    }


def test_what_is_read_of_histories_by_what_it_says(planner, keys):
    ids = arrays.long_texts(["run-0", "filled-3"])
    planner(planner.texts.states, [ids])
    planner(planner.texts.replies, [ids, arrays.int4s([1, 2])])
    planner(planner.texts.newest.replace("{type}", "60"), ["run-0", "progress"])
    used = {index for table, _, index in planner.scans() if table == "history"}
    assert used == {"history_named", "history_replies"}


def test_a_parents_children(planner, keys):
    planner(planner.texts.children, [keys[0], arrays.int4s([1, 2])])
    where = f" where r.parent_key = ({planner.texts.key_of}) order by r.key desc limit 50"
    planner(planner.texts.runs + where, ["run-0"])
    used = {index for table, _, index in planner.scans() if table == "runs"}
    assert used <= {"runs_parent", "runs_id", "runs_pkey"}
    assert "runs_parent" in used


def test_a_page_of_waits(planner, worker, keys):
    planner.commit(worker, park(keys[0], waits=waits(key=None)))
    planner.scans()
    query = planner.texts.waits.replace("{where}", "w.place > %b")
    planner(query, [arrays.int2s([2]), 0, 50, 50])
    used = {index for table, _, index in planner.scans() if table == "waits"}
    assert used == {"waits_listed"}


def test_holds(planner, keys):
    for verb in (planner.texts.pause, planner.texts.resume):
        planner(verb, [None, "run-0", *batches.order_scalars(event(0, "Paused"))])
    used = {(table, index) for table, _, index in planner.scans()}
    assert used <= {("runs", "runs_pkey"), ("runs", "runs_id"), ("inbox", "inbox_pkey")}


def test_terminate(planner, keys):
    assert planner.terminate("run-0") == "terminated"
    assert event(1).seq
    assert not any(kind == "Seq Scan" for _, kind, _ in planner.scans())


def test_a_restart_finds_its_number_at_once(planner, keys):
    """However often its id was restarted before."""

    def statements(turn: int) -> int:
        planner.plans.clear()
        run = new_run("run-0")
        planner.restart(replace(run, started=replace(run.started, data=b"\x01%d" % turn)))
        return len(planner.plans)

    counts = [statements(turn) for turn in range(12)]
    assert counts[1:] == [counts[1]] * 11
