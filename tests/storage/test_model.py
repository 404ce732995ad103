"""The protocol holds in every interleaving of small worlds, and each way to build it wrong is found."""

from __future__ import annotations

import pytest

from tests.storage.model_checker import CONFIGS, MUTANTS, check

SMALL = ("send2", "childx", "pause")
"""Worlds that are walked to the end; the others are walked as far as the time allows."""
LIMIT = 15_000


@pytest.mark.parametrize("config", SMALL)
def test_the_protocol_holds_in_every_state(config):
    verdict = check(config)
    assert verdict.broken is None, "\n".join(verdict.trace)
    assert verdict.closed


@pytest.mark.parametrize("config", sorted(CONFIGS.keys() - set(SMALL)))
def test_the_protocol_holds_as_far_as_it_was_walked(config):
    verdict = check(config, limit=LIMIT)
    assert verdict.broken is None, "\n".join(verdict.trace)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_broken_protocol_is_found(mutant):
    verdict = check(MUTANTS[mutant], mutant, limit=200_000)
    assert verdict.broken is not None
