"""The bank of mutants in short: it fits the code, its verdicts are those of the mutants that are in it, and it can tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from tests.mutants.__main__ import Round, misfits
from tests.mutants.bank import MOST_SEEDS, ROOT, Misfit, load, text_of
from tests.mutants.killing import Tree, copies
from tests.mutants.verdicts import PLACE, Book

BANK = load()


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def test_every_mutant_fits_its_file():
    assert not misfits(BANK)


def test_mutants_have_ids_of_their_own_and_a_killer():
    assert len({mutant.id for mutant in BANK}) == len(BANK)
    for mutant in BANK:
        assert mutant.what.endswith("."), mutant.id
        assert bool(mutant.test) != bool(mutant.seeds), mutant.id
        assert mutant.seeds <= MOST_SEEDS, mutant.id


def test_they_are_of_many_cases():
    assert len({mutant.case for mutant in BANK}) >= 40


def test_the_killers_exist():
    for mutant in BANK:
        if mutant.test is not None:
            file, _, name = mutant.test.partition("::")
            assert name.partition("[")[0] in names_in(file), mutant.id


def test_each_has_been_killed_as_it_is():
    """The files may have changed since: `make mutants` looks for those again."""
    book = Book()
    for mutant in BANK:
        known = book.get(mutant.id)
        assert known is not None, f"{mutant.id}: run `make mutants`"
        assert known.mutant == mutant.digest(), f"{mutant.id} has changed: run `make mutants`"
        assert known.killed, f"{mutant.id} survives"


# -- the runner can tell

NAN = next(mutant for mutant in BANK if mutant.id == "timers-of-no-length")
HARMLESS = replace(NAN, id="harmless", new="    if not math.isfinite(seconds) or False:")


@pytest.fixture(scope="module")
def tree() -> Iterator[Tree]:
    with copies(1) as (one,):
        yield one


@pytest.fixture
def one_round(tree, tmp_path) -> tuple[Round, Book]:
    book = Book(tmp_path / "verdicts.json")
    return Round(book, [tree]), book


@pytest.mark.slow
def test_a_mutant_is_killed_and_one_that_does_no_harm_survives(one_round):
    round_, book = one_round
    for mutant in (NAN, HARMLESS):
        round_.kill(mutant)
    assert book.of(NAN).killed
    assert "nan" in book.of(NAN).said.lower() or "DID NOT RAISE" in book.of(NAN).said
    assert book.of(HARMLESS).killed is False


@pytest.mark.slow
def test_a_killer_that_fails_anyway_or_is_not_there_proves_nothing(one_round, tree):
    round_, book = one_round
    failing = tree.root / "tests" / "test_that_fails.py"
    failing.write_text("def test_it():\n    assert False\n")
    always = replace(NAN, id="always", test="tests/test_that_fails.py::test_it")
    nowhere = replace(NAN, id="nowhere", test="tests/test_that_fails.py::test_that_is_not_there")
    for mutant in (always, nowhere):
        round_.kill(mutant)
        assert book.of(mutant).killed is False
        assert book.of(mutant).said == "its killer fails without it"


@pytest.mark.slow
def test_the_simulator_is_a_killer_too(one_round):
    round_, book = one_round
    early = replace(NAN, id="simulated", test=None, seeds=20, file="durable/worker/execution.py")
    early = replace(early, old="while held and held[0][0] <= self.durable:", new="while held:")
    round_.simulate(early, 20)
    assert book.of(early).simulated == 20
    assert book.of(early).seeds_to_kill
    assert book.of(early).broke.startswith("I4")


def test_what_has_changed_is_unknown(tmp_path):
    place = tmp_path / "verdicts.json"
    Book(place).write(NAN, killed=True)
    assert Book(place).of(NAN).killed
    assert Book(place).of(replace(NAN, new="    if False:")).killed is None
    Book(place).keep({"another"})
    assert Book(place).get(NAN.id) is None


def test_one_that_fits_no_more_is_told():
    text = text_of(NAN)
    for misfit in (replace(NAN, old="not there"), replace(NAN, old="e"), replace(NAN, new=NAN.old)):
        with pytest.raises(Misfit):
            misfit.of(text)
    with pytest.raises(SyntaxError):
        replace(NAN, new="    if (").of(text)


def test_a_tree_is_as_it_was_afterwards(tree):
    before = text_of(NAN, tree.root)
    with tree.with_(NAN):
        assert text_of(NAN, tree.root) != before
    assert text_of(NAN, tree.root) == before == text_of(NAN)


def test_the_verdicts_hold_no_mutant_that_is_gone():
    gone = [id for id in Book(PLACE).ids() if id not in {mutant.id for mutant in BANK}]
    assert not gone
