"""Every planted mistake is found, what only looks like one is not, and our own code has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from durable.lint import RULES, lint_file, lint_source, python_files

ROOT = Path(__file__).parents[2]
PLANTED = Path(__file__).parent / "planted"


def test_the_thirty_mistakes_are_found_and_nothing_else():
    path = PLANTED / "thirty_mistakes.py"
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    marked = {
        (number, found[1])
        for number, line in lines
        if (found := re.search(r"# expect: (\w+)", line))
    }
    assert len(marked) == 30
    assert {(found.line, found.code) for found in lint_file(path)} == marked
    assert len(lint_file(path)) == 30


def test_every_rule_but_those_about_reading_is_planted():
    planted = {found.code for found in lint_file(PLANTED / "thirty_mistakes.py")}
    assert {code for code in RULES if code < "DUR9"} == planted


def test_near_misses_are_left_in_peace():
    assert lint_file(PLANTED / "near_misses.py") == []


@pytest.mark.parametrize("folder", ["examples", "tests/api_examples", "durable", "durable_testing"])
def test_our_own_workflows_are_clean(folder):
    files = list(python_files([ROOT / folder]))
    assert files
    assert [str(found) for file in files for found in lint_file(file)] == []


SHOWN_AS_WRONG = {"replay": {"DUR101", "DUR205"}, "lint": {"DUR101", "DUR302", "DUR501"}}
"""Guides that show mistakes, and say so."""


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.stem
)
def test_the_code_of_the_documentation_is_clean(path):
    """The blocks of a page are one module, as its tests run them."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = lint_source("\n".join(blocks), path.name)
    assert {each.code for each in found} == SHOWN_AS_WRONG.get(path.stem, set()), list(
        map(str, found)
    )
