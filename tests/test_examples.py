"""Every example runs as it is, on both stores, and prints what its first lines say."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
GUIDES = sorted((ROOT / "examples" / "guides").glob("*.py"))
ENVIRONMENT = {"PATIENCE": "3", "DAY_SECONDS": "0.1"}
"""How long people and days take; so long that a busy machine changes nothing."""


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    """A fresh database, of each kind in turn; None: what the example takes by itself."""
    if request.param == "memory":
        return None
    return request.getfixturevalue(f"durable_{request.param}")


def promised(path: Path) -> str:
    """What stands under `prints` in the first docstring."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said is not None
    after = said.partition("\nprints")[2].partition("\n\n")[2]
    return textwrap.dedent(after) + "\n"


@pytest.mark.parametrize("path", [*EXAMPLES, *GUIDES], ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(path: Path, url: str | None, tmp_path: Path) -> None:
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    environment.pop("DURABLE_URL", None)
    if url is not None:
        environment["DURABLE_URL"] = url
    module = path.relative_to(ROOT).with_suffix("").parts
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", ".".join(module)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == promised(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_one_page_or_two(path: Path) -> None:
    assert 60 <= len(path.read_text(encoding="utf-8").splitlines()) <= 130


def test_the_index_names_every_example() -> None:
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    named = [path.relative_to(ROOT / "examples").as_posix() for path in [*EXAMPLES, *GUIDES]]
    assert [name for name in named if f"({name})" not in index] == []


def test_every_counterpart_that_the_index_names_is_there() -> None:
    """`where.py`: `name`."""
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+ \| `([\w/.]+)` \| ([^|]+) \|$", index, re.MULTILINE)
    assert rows
    for file, names in rows:
        code = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(async )?(def|class) {name}\b", code, re.MULTILINE), (file, name)
