"""Recorded histories as tests of a session: `--durable-record` writes them, and they are collected."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ORDERS = """
from durable import Context, days, step, workflow

@step
async def charge(amount: int) -> str:
    return f"charged {amount}"

@workflow
async def order(ctx: Context, amount: int) -> str:
    charged = await ctx.step(charge, amount)
    await ctx.sleep(days(30))
    return charged
"""
TEST = """
import asyncio
from durable_testing import Environment
from orders import order

def test_order():
    async def body():
        async with Environment(workflows=[order]) as env:
            assert await env.run(order, 5, id="first/order") == "charged 5"
    asyncio.run(body())
"""
INI = "[pytest]\ndurable_workflows = orders\n"


def session(folder: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recorded history, as a session writes it."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "orders.py").write_text(ORDERS)
    (folder / "test_orders.py").write_text(TEST)
    code, said = session(folder, "--durable-record", "golden")
    assert code == 0, said
    [file] = (folder / "golden").iterdir()
    assert re.fullmatch(r"order-first_order-[0-9a-f]{8}\.history\.json", file.name)
    return file.read_text()


@pytest.fixture
def project(tmp_path: Path, golden: str) -> Path:
    """A project with a workflow and its recorded history."""
    (tmp_path / "orders.py").write_text(ORDERS)
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "order.history.json").write_text(golden)
    return tmp_path


def test_unchanged_code_passes(project: Path) -> None:
    """A history is a test like any other."""
    code, said = session(project, "-vv")
    assert code == 0, said
    assert "order.history.json::replay PASSED" in said


def test_changed_code_fails_with_both_sides(project: Path) -> None:
    """Where they part, and nothing else."""
    changed = ORDERS.replace("await ctx.sleep", "await ctx.step(charge, 1)\n    await ctx.sleep")
    (project / "orders.py").write_text(changed)
    code, said = session(project)
    assert code == 1
    assert "the code no longer matches its history at command 2" in said
    assert "step charge" in said
    assert "Traceback" not in said


def test_the_version_of_the_run_is_looked_for(project: Path, golden: str) -> None:
    """Among several of a name; one that is not there is named."""
    versions = ORDERS.replace("@workflow", "@workflow(version=3)") + ORDERS.replace(
        "@workflow\nasync def order", '@workflow(name="order", version=2)\nasync def order_2'
    )
    (project / "orders.py").write_text(versions)
    document = json.loads(golden)
    fields = document["events"][0]["fields"]
    document["events"][0]["fields"] = {"input": fields["input"], "version": 2}
    (project / "order.history.json").write_text(json.dumps(document))
    code, said = session(project)
    assert code == 0, said
    (project / "order.history.json").write_text(golden)
    code, said = session(project)
    assert code == 1
    assert (
        "is of version 1 of workflow order, of which ['orders'] have version 3, version 2" in said
    )
    assert "keep @workflow(version=1) there" in said


def test_the_file_may_name_module_and_workflow(project: Path, golden: str) -> None:
    """Then no configuration is needed."""
    (project / "pytest.ini").unlink()
    named = golden.replace('"workflow": "order"', '"workflow": "orders:order"')
    (project / "order.history.json").write_text(named)
    code, said = session(project)
    assert code == 0, said


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"workflow": "order"', '"workflow": "ordr"', "of workflow ordr, which is not in"),
        ('"workflow": "order"', '"workflow": "orders:charge"', "which is no workflow"),
        ('"durable_history": 1', '"durable_history": 9', "format 9, newer than 1"),
        ('"events"', '"evnts"', "no history that durable has written"),
    ],
)
def test_what_cannot_be_replayed_says_why(
    project: Path, golden: str, old: str, new: str, message: str
) -> None:
    assert old in golden
    (project / "order.history.json").write_text(golden.replace(old, new))
    code, said = session(project)
    assert code == 1
    assert message in said


@pytest.mark.parametrize("modules, orders", [("shop.orders", ORDERS), ("orders", "import nowhere")])
def test_a_module_that_cannot_be_imported_is_named(
    project: Path, modules: str, orders: str
) -> None:
    (project / "orders.py").write_text(orders)
    (project / "pytest.ini").write_text(INI.replace("orders", modules))
    code, said = session(project)
    assert code == 1
    assert f"workflows of module {modules} are wanted" in said
    assert "ModuleNotFoundError: No module named" in said
    assert "see `pythonpath` in pytest's configuration" in said
    assert len(said.splitlines()) < 15, said
