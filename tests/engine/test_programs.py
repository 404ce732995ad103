"""A short form of the campaign `replay_programs`, and programs that once were hard to replay."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.campaigns.replay_programs import Witnesses, campaign, check


@pytest.mark.slow
def test_random_programs_replay_alike_everywhere():
    """Replaying any prefix of a history yields the same commands in any process and with any hash seed."""
    figures, broken = campaign(150, 1)
    assert broken is None, broken
    assert figures.counts["programs"] >= 150


def step(n: int = 0) -> dict[str, object]:
    return {"do": "step", "n": n}


HARD = {
    "gathers in a wait": {
        "do": "wait",
        "parts": [step(n) for n in range(8)],
        "when": "FIRST_COMPLETED",
        "s": 2.0,
        "form": "gathers",
        "end": "forget",
    },
    "bare coroutines in as_completed": {
        "do": "as_completed",
        "parts": [step(n) for n in range(8)],
        "s": None,
        "form": "coroutines",
    },
    "a generator left half-way": {"do": "generator", "parts": [step(1), step(2)], "stop": 0},
    "a task left behind that cleans up": {
        "do": "leave",
        "body": {"do": "try", "body": step(1), "handler": step(2), "final": step(3)},
    },
}


@pytest.mark.parametrize("tree", HARD.values(), ids=HARD)
def test_programs_that_once_were_hard_to_replay(tree):
    """Each of these differed on some replay before its cause was found."""
    with ExitStack() as stack:
        witnesses = Witnesses(stack, 5)
        for number in range(10):
            check({"do": "seq", "parts": [tree]}, number, witnesses)
