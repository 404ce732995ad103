"""Records are read-only values; a `Listing` is one page when awaited and everything when walked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from durable import Listing, Page, Run, RunDetail
from durable.model import records

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = {
    "id": "r-1",
    "workflow": "fulfil",
    "version": 1,
    "status": "completed",
    "queue": "default",
    "priority": 0,
    "tags": {},
    "input": None,
    "result": 3,
    "error": None,
    "state": {},
    "created_at": NOW,
    "started_at": NOW,
    "finished_at": NOW,
    "parent_id": None,
    "root_id": "r-1",
    "retried_from": None,
    "forked_from": None,
    "recoveries": 0,
    "waiting_for": (),
}


def test_a_record_cannot_be_changed():
    run = Run(**FIELDS)
    assert run.id == "r-1"
    assert run == Run(**FIELDS)
    with pytest.raises(AttributeError):
        run.status = "failed"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        run.other = 1  # type: ignore[attr-defined]


def test_every_record_is_a_frozen_slotted_dataclass():
    found = [each for each in vars(records).values() if dataclasses.is_dataclass(each)]
    assert len(found) > 10
    for each in found:
        if isinstance(each, type) and each.__module__ == records.__name__:
            assert each.__dataclass_params__.frozen, each  # type: ignore[attr-defined]
            assert "__slots__" in vars(each), each


def test_a_detail_is_a_run_with_its_steps():
    detail = RunDetail(**FIELDS)
    assert isinstance(detail, Run)
    assert (detail.steps, detail.compensations, detail.logs) == ((), (), ())
    assert not hasattr(Run(**FIELDS), "steps")


def test_a_page_is_a_sequence():
    page = Page(("a", "b", "c"), next="2", total=9)
    assert isinstance(page, Sequence)
    assert (len(page), page[0], page[-1], list(page[1:])) == (3, "a", "c", ["b", "c"])
    assert list(page) == ["a", "b", "c"]
    assert "b" in page
    assert not Page(())


def listing(pages: int, asked: list[str | None], after: str | None = None) -> Listing[int]:
    async def fetch(cursor: str | None) -> Page[int]:
        asked.append(cursor)
        number = int(cursor or 0)
        following = str(number + 1) if number + 1 < pages else None
        return Page((number * 10, number * 10 + 1), next=following)

    return Listing(fetch, after)


async def test_awaiting_a_listing_gives_one_page():
    asked: list[str | None] = []
    page = await listing(3, asked)
    assert (list(page), page.next) == ([0, 1], "1")
    assert asked == [None]
    assert list(await listing(3, asked, after="2")) == [20, 21]


async def test_walking_a_listing_gives_everything_page_by_page():
    asked: list[str | None] = []
    seen = [(item, len(asked)) async for item in listing(3, asked)]
    assert seen == [(0, 1), (1, 1), (10, 2), (11, 2), (20, 3), (21, 3)]
    assert asked == [None, "1", "2"]
    assert [item async for item in listing(3, [], after="1")] == [10, 11, 20, 21]


async def test_a_listing_asks_anew_each_time():
    asked: list[str | None] = []
    many = listing(1, asked)
    assert not asked
    await many
    await many
    assert asked == [None, None]
