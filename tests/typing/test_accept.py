"""What type checkers accept, Python accepts too: every definition in the files here can be made."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from durable import Runnable, Step

ACCEPTED = sorted(path.stem for path in Path(__file__).parent.glob("accept_*.py"))


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_definition_can_be_made_and_resolved(name: str):
    module = importlib.import_module(f"tests.typing.{name}")
    made = [each for each in vars(module).values() if isinstance(each, Step | Runnable)]
    assert made
    for each in made:
        each.resolve()
