"""The guide says what the code does: its tables are made of the rules, its output is what is printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import durable.engine
from durable.cli import main
from durable.lint import RULES
from durable.lint.verbs import CHILD_VERBS, VERBS

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "lint.md").read_text(encoding="utf-8")
ENGINE = Path(durable.engine.__file__).parent


def test_the_tables_of_the_guide_are_the_rules():
    rows = [line for line in GUIDE.splitlines() if line.startswith("| DUR")]
    assert rows == [
        f"| {rule.code} | {rule.finds} | {rule.happens} | {rule.write} |" for rule in RULES.values()
    ]


def test_codes_and_families_are_in_order():
    assert list(RULES) == sorted(RULES)
    assert all(
        re.fullmatch(r"DUR[1-9]\d\d", code) and rule.code == code for code, rule in RULES.items()
    )


def test_the_output_in_the_guide_is_what_is_printed(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
    shown = re.findall(r"```console\n\$ durable lint orders.py\n(.*?)```", GUIDE, re.DOTALL)[0]
    (tmp_path / "orders.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert main(["lint", "orders.py"]) == 1
    assert capsys.readouterr().out == shown


def coroutines_of(*files: str) -> set[str]:
    """The methods that are declared as `async def` in the classes of these files, for checkers or for real."""
    return {
        node.name
        for file in files
        for node in ast.walk(ast.parse((ENGINE / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_")
    }


@pytest.mark.parametrize(
    "files, verbs",
    [
        (["context.py", *(path.name for path in ENGINE.glob("*_verbs.py"))], VERBS),
        (["child.py"], CHILD_VERBS),
    ],
)
def test_every_verb_that_is_awaited_is_known(files, verbs):
    """A verb that is added to the context is looked after by the linter, or this fails."""
    assert coroutines_of(*files) == verbs
