"""The pytest plugin, in test sessions of its users."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = """
import pytest
from durable import Context, Retry, Worker, days, step, workflow
from durable_testing import Environment

@step(retry=Retry(max_attempts=3, initial=60, jitter=0.5))
async def charge(name: str) -> str:
    return name

@workflow
async def order(ctx: Context, name: str) -> str:
    await ctx.step(charge, name)
    await ctx.sleep(days(30))
    return name
"""
SCOPE = ["-o", "asyncio_default_fixture_loop_scope=function"]
AUTO = ["-o", "asyncio_mode=auto", *SCOPE]
MODES = {
    "asyncio, auto": (AUTO, ""),
    "asyncio, strict": (["-o", "asyncio_mode=strict", *SCOPE], "pytestmark = pytest.mark.asyncio"),
    "anyio": (
        ["-p", "no:asyncio"],
        "pytestmark = pytest.mark.anyio\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'",
    ),
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> tuple[list[str], str]:
    if request.param == "anyio" and importlib.util.find_spec("anyio") is None:
        pytest.skip("anyio is not installed")
    return MODES[request.param]


def session(folder: Path, code: str, *options: str) -> tuple[int, str]:
    """How a test session of this module ends, and what it says."""
    (folder / "test_orders.py").write_text(f"{WORKFLOWS}\n{code}")
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_fixtures_work_with_the_plugins_for_asyncio(
    tmp_path: Path, mode: tuple[list[str], str]
) -> None:
    options, marks = mode
    code = f"""
{marks}

async def test_of_an_environment(durable_env):
    async with durable_env(workflows=[order]) as env:
        env.mock(charge, outcomes=[OSError("away"), "x"])
        assert await env.run(order, "a") == "a"

async def test_of_a_client(durable_client):
    async with durable_client, Worker(durable_client, workflows=[order]):
        handle = await durable_client.start(order, "a")
        await handle.cancel()
        with pytest.raises(Exception, match="was cancelled"):
            await handle.result(timeout=20)
"""
    assert session(tmp_path, code, *options)[0] == 0


def test_a_test_that_fails_shows_its_runs_and_its_seed(tmp_path: Path) -> None:
    code = """
async def test_of_an_environment(durable_env):
    async with durable_env(workflows=[order]) as env:
        env.mock(charge, outcomes=[OSError("away"), "x"])
        assert await env.run(order, "a", id="a") == "b"

async def test_without_a_fixture():
    async with Environment(workflows=[order], seed=3) as env:
        env.mock(charge, raises=KeyError("no money"))
        await env.run(order, "a", id="c")
"""
    code, said = session(tmp_path, code, *AUTO, "--durable-seed=11")
    assert code == 1
    assert "environment with seed 11 (pytest --durable-seed=11)" in said
    assert "order  a  completed  took 30 d · 2 attempts, 1 failed" in said
    assert "environment with seed 3 (pytest --durable-seed=3)" in said
    assert "error  KeyError: 'no money'" in said


FAILING = """
import pytest_asyncio

@pytest_asyncio.fixture
async def env():
    async with Environment(workflows=[order]) as env:
        yield env

async def test_of_a_fixture(env):
    assert await env.run(order, "a", id="in-a-fixture") == "b"

async def test_after_the_block(durable_env):
    async with durable_env(workflows=[order]) as env:
        result = await env.run(order, "a", id="after-the-block")
    assert result == "b"

async def test_by_hand(durable_env):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, "a", id="by-hand")
        pytest.fail("no")

@pytest.fixture
def ends_badly():
    yield
    raise OSError("no")

async def test_whose_fixture_fails(ends_badly, durable_env):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, "a", id="fixture-fails")

@pytest.mark.xfail
async def test_that_is_meant_to_fail(durable_env):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, "a", id="meant-to")
    assert False

async def test_that_passes(env):
    assert await env.run(order, "a", id="passes") == "a"
"""


def test_a_test_shows_and_keeps_its_runs_by_how_it_ends(tmp_path: Path) -> None:
    """Also where that is known only after the block of its environment."""
    code, said = session(tmp_path, FAILING, *AUTO, "--durable-record=golden")
    assert code == 1
    assert "3 failed, 2 passed, 1 xfailed, 1 error" in said
    assert said.count("environment with seed 0") == 4
    for run_id in ("in-a-fixture", "after-the-block", "by-hand", "fixture-fails"):
        assert f"order  {run_id}  completed  took 30 d" in said
    [kept] = (tmp_path / "golden").iterdir()
    assert kept.name.startswith("order-passes-")


def test_histories_that_no_code_could_replay_are_not_kept(tmp_path: Path) -> None:
    code = """
import time

@workflow
async def parent(ctx: Context) -> str:
    return await ctx.call(order, "a", id="stand-in")

@workflow
async def blocked(ctx: Context) -> str:
    return str(time.time())

async def test_of_a_mocked_child(durable_env):
    async with durable_env(workflows=[order, parent]) as env:
        env.mock(order, returns="b")
        assert await env.run(parent, id="real") == "b"

async def test_of_a_blocked_run(durable_env):
    async with durable_env(workflows=[blocked]) as env:
        with pytest.raises(Exception, match="time.time"):
            await env.run(blocked, id="blocked")
"""
    ended, said = session(tmp_path, code, *AUTO, "--durable-record=golden")
    assert ended == 0, said
    [kept] = (tmp_path / "golden").iterdir()
    assert kept.name.startswith("parent-real-")


def test_no_history_is_written_over_another_one_but_over_itself(tmp_path: Path) -> None:
    code = """
@pytest.mark.parametrize("name", ["a", "b"])
async def test_of_one_id(durable_env, name):
    for _ in range(2):
        async with durable_env(workflows=[order]) as env:
            await env.run(order, name, id="same")

async def test_of_ids_that_make_no_file_names(durable_env):
    async with durable_env(workflows=[order]) as env:
        for id in ("\u00e9/1", "\u00fc/1", "x" * 255, "x" * 254 + "y"):
            await env.run(order, "a", id=id)
"""
    options = (*AUTO, "--durable-record=golden", "test_orders.py")
    kept = []
    for _ in range(2):
        ended, said = session(tmp_path, code, *options)
        assert ended == 0, said
        kept.append({file.name for file in (tmp_path / "golden").iterdir()})
    assert len(kept[0]) == 8
    assert kept[0] == kept[1]


def test_a_folder_that_cannot_be_written_to_fails_the_test(tmp_path: Path) -> None:
    code = """
async def test_of_an_environment(durable_env):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, "a")
"""
    (tmp_path / "golden").write_text("a file")
    ended, said = session(tmp_path, code, *AUTO, "--durable-record=golden")
    assert ended == 1
    assert "--durable-record cannot write what this test has recorded" in said


def test_environments_of_one_test_on_one_database_give_ids_of_their_own(
    tmp_path: Path, durable_sqlite: str
) -> None:
    code = f"""
async def test_ids():
    for name in "ab":
        async with Environment(workflows=[order], url={durable_sqlite!r}) as env:
            handle = await env.client.start(order, name)
            assert await handle.result() == name
            print("the id is", handle.id)
"""
    given = []
    for _ in range(2):
        ended, said = session(tmp_path, code, "-s", *AUTO)
        assert ended == 0, said
        given.append([line for line in said.splitlines() if "the id is" in line])
        Path(durable_sqlite.removeprefix("sqlite:///")).unlink()
    assert len(given[0]) == 2
    assert given[0] == given[1]


def test_the_seed_of_a_session_is_that_of_its_environments(tmp_path: Path) -> None:
    code = """
async def test_ids(durable_env):
    async with durable_env(workflows=[order]) as env, Environment(workflows=[order]) as other:
        ids = [(await each.client.start(order, "a")).id for each in (env, other)]
        assert ids[0] == ids[1]
        print("the id is", ids[0])
"""
    ids = set()
    for seed in ("1", "1", "2"):
        options = ("-s", *AUTO, f"--durable-seed={seed}")
        (line,) = [x for x in session(tmp_path, code, *options)[1].splitlines() if "the id is" in x]
        ids.add(line)
    assert len(ids) == 2


def test_no_two_tests_have_runs_of_the_same_id(tmp_path: Path) -> None:
    """So each keeps a history of its own, and the same one in the next session."""
    code = """
@pytest.mark.parametrize("name", ["a", "b"])
async def test_of_a_run_without_an_id(durable_env, name):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, name)
"""
    kept = []
    for _ in range(2):
        assert session(tmp_path, code, *AUTO, "--durable-record=golden", "test_orders.py")[0] == 0
        kept.append({file.name for file in (tmp_path / "golden").iterdir()})
    assert len(kept[0]) == 2
    assert kept[0] == kept[1]


def test_the_database_of_all_fixtures_is_chosen_in_one_place(
    tmp_path: Path, durable_sqlite: str
) -> None:
    code = f"""
@pytest.fixture
def durable_url():
    return {durable_sqlite!r}

async def test_both(durable_env, durable_client):
    async with durable_env(workflows=[order]) as env:
        await env.run(order, "a", id="a")
    async with durable_client:
        assert (await durable_client.get("a")).status == "completed"
"""
    assert session(tmp_path, code, *AUTO)[0] == 0


def test_whoever_does_not_use_it_does_not_pay_for_it() -> None:
    """Loading the plugin loads nothing of durable, nor anything that it needs."""
    code = (
        "import durable_testing.plugin, sys\n"
        "heavy = {'durable', 'asyncio', 'pydantic', 'msgpack', 'sqlite3'} & sys.modules.keys()\n"
        "print(sorted(heavy - set(sys.argv[1:])))"
    )
    # pytest itself may have loaded some.
    before = subprocess.run(
        [sys.executable, "-c", "import pytest, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    done = subprocess.run(
        [sys.executable, "-c", code, *before],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
