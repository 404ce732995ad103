"""Every guide runs as it is written: its Python blocks in their order, as one module.

A block that defines `async def main()` is run as soon as it is there, and so is every `async def test_...` in it;
a `text` block that follows it, before the next Python block, is what it prints. `DURABLE_URL` is an in-memory SQLite.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from durable_testing import Environment

ROOT = Path(__file__).parent.parent
GUIDES = sorted(
    path for path in (ROOT / "docs" / "guides").glob("*.md") if path.name != "README.md"
)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(r"^async def (main|test_\w+)\((?:durable_env)?\)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a guide, and the number of lines before its code."""

    language: str
    code: str
    above: int

    @property
    def runs(self) -> list[str]:
        """The functions that are to be run, by name."""
        return [found[1] for found in _RUN.finditer(self.code)]


def blocks(guide: str) -> list[Block]:
    """All Python and text blocks of a guide."""
    return [
        Block(found[1], found[2], guide.count("\n", 0, found.start(2)))
        for found in _BLOCK.finditer(guide)
        if found[1] in {"python", "text"}
    ]


def shown(found: list[Block], place: int) -> str | None:
    """What the guide shows as the output of the block at `place`."""
    after = found[place + 1] if place + 1 < len(found) else None
    return None if after is None or after.language == "python" else after.code


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """Annotations are resolved in the module that a function names, so there must be one."""
    made = ModuleType("guide")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_runs_as_written(
    path: Path,
    module: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DURABLE_URL", "sqlite://")
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    found = blocks(text)
    assert any(block.language == "python" for block in found)
    for place, block in enumerate(found):
        if block.language != "python":
            continue
        # The lines above are kept, so that errors and call sites name the line of the guide.
        exec(compile("\n" * block.above + block.code, str(path), "exec"), module.__dict__)
        if block.runs:
            capsys.readouterr()
            for name in block.runs:
                function = getattr(module, name)
                given = [Environment] if inspect.signature(function).parameters else []
                asyncio.run(asyncio.wait_for(function(*given), 60))
            expected = shown(found, place)
            assert expected is None or capsys.readouterr().out == expected


def test_the_index_names_every_guide() -> None:
    index = (ROOT / "docs" / "guides" / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([\w-]+\.md)\)", index)) == [path.name for path in GUIDES]
