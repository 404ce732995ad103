"""Human input through the public API: what is asked is listed, answered once, and asked again if it does not fit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from durable import (
    Client,
    Context,
    InputAlreadyProvided,
    InputNotPending,
    InvalidInput,
    RunNotFound,
    Worker,
    workflow,
)


class Address(BaseModel):
    street: str
    number: int


@workflow
async def approves(ctx: Context) -> list[Any]:
    decision = await ctx.wait_for_approval(
        "manager", prompt="Ship?", metadata={"order": 3}, to=["ann", "bob"], timeout=3000
    )
    return [decision.approved, decision.comment, decision.by]


@workflow
async def asks(ctx: Context) -> str:
    where = await ctx.wait_for_form("address", Address)
    how = await ctx.wait_for_choice("how", {"post": "By post", "van": "By van"})
    extras = await ctx.wait_for_choices("extras", [1, 2, 3])
    return f"{where.street} {where.number} {how} {extras}"


@workflow
async def asks_late(ctx: Context) -> str:
    await ctx.sleep(0.3)
    return await ctx.wait_for_text("words")


@workflow
async def escalates(ctx: Context) -> list[Any]:
    first = await ctx.wait_for_approval("a", to="ann", timeout=0.05, default=None)
    second = await ctx.wait_for_approval("a", to="boss")
    return [first, second.approved]


@workflow
async def asks_then_waits(ctx: Context) -> str:
    words = await ctx.wait_for_text("words")
    await ctx.wait_for_event("go")
    return words


ALL = [approves, asks, asks_late, escalates, asks_then_waits]


async def test_a_question_is_listed_and_answered(client: Client) -> None:
    """`pending_inputs` shows the whole question; the decision says by whom."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(approves)
        async with asyncio.timeout(20):
            while not (page := await client.pending_inputs(run_id=handle.id)):
                await asyncio.sleep(0.01)
        (asked,) = page
        assert (asked.name, asked.type, asked.prompt) == ("manager", "approval", "Ship?")
        assert (asked.metadata, asked.to) == ({"order": 3}, ("ann", "bob"))
        assert asked.expires_at is not None
        for filters in ({"to": "bob"}, {"name": "manager"}, {"workflow": "approves"}):
            assert len(await client.pending_inputs(**filters)) == 1  # type: ignore[arg-type]
        assert not await client.pending_inputs(to="eve")
        answer = {"approved": True, "comment": "fine"}
        await handle.provide_input("manager", answer, by="ann")
        assert await handle.result(timeout=20) == [True, "fine", "ann"]
        assert not await client.pending_inputs()


async def test_an_answer_is_checked_before_it_is_stored(client: Client) -> None:
    """45. Bad data: `InvalidInput.errors`, the run goes on waiting."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(asks)
        with pytest.raises(InvalidInput) as caught:
            await handle.provide_input("address", {"street": "Main", "number": "x"}, wait=20)
        assert [error["loc"] for error in caught.value.errors] == [["number"]]
        await handle.provide_input("address", Address(street="Main", number=1))
        with pytest.raises(InvalidInput, match="one of"):
            await handle.provide_input("how", "pigeon", wait=20)
        await handle.provide_input("how", "van")
        with pytest.raises(InvalidInput):
            await handle.provide_input("extras", [1, 4], wait=20)
        await handle.provide_input("extras", [3, 1])
        assert await handle.result(timeout=20) == "Main 1 van [1, 3]"


async def test_a_client_without_the_class_checks_by_the_schema(client: Client, url: str) -> None:
    """The form travels with its JSON schema: whoever answers need not have the class."""
    from durable.model import forms

    async with Worker(client, workflows=ALL):
        handle = await client.start(asks)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(forms, "_shape_here", lambda _: None)
            with pytest.raises(InvalidInput) as caught:
                await handle.provide_input("address", {"street": 3}, wait=20)
            assert {tuple(error["loc"]) for error in caught.value.errors} == {
                ("street",),
                ("number",),
            }
            await handle.provide_input("address", {"street": "Main", "number": 2})
        await handle.provide_input("how", "post", wait=20)
        await handle.provide_input("extras", [], wait=20)
        assert await handle.result(timeout=20) == "Main 2 post []"


async def test_what_is_not_asked(client: Client) -> None:
    """45. `provide_input` for something not asked: `InputNotPending`, after `wait`."""
    with pytest.raises(RunNotFound):
        await client.provide_input("nobody", "words", "x", wait=20)
    async with Worker(client, workflows=ALL):
        handle = await client.start(asks_late)
        with pytest.raises(InputNotPending):
            await handle.provide_input("words", "x")
        with pytest.raises(InputNotPending):
            await handle.provide_input("other", "x", wait=0.05)
        await handle.provide_input("words", "x", wait=20)
        assert await handle.result(timeout=20) == "x"
        with pytest.raises(InputNotPending):
            await handle.provide_input("words", "y", wait=20)


async def test_the_first_answer_counts(client: Client) -> None:
    """`InputAlreadyProvided(by, at)` whether or not the run has read the first one."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(asks_then_waits)
        async with asyncio.timeout(20):
            while not await client.pending_inputs(run_id=handle.id):
                await asyncio.sleep(0.01)
    await handle.provide_input("words", "first", by="ann")  # nobody works: it is not read
    with pytest.raises(InputAlreadyProvided, match="by ann") as caught:
        await handle.provide_input("words", "second", by="bob")
    assert caught.value.by == "ann"
    async with Worker(client, workflows=ALL):
        async with asyncio.timeout(20):
            while not await client.pending_events(run_id=handle.id):
                await asyncio.sleep(0.01)
        with pytest.raises(InputAlreadyProvided) as caught:
            await handle.provide_input("words", "third")
        assert caught.value.by == "ann"
        await handle.send_event("go")
        assert await handle.result(timeout=20) == "first"


async def test_of_many_answers_at_once_one_is_taken(client: Client) -> None:
    """One winner; the others learn who it was."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(approves)
        answers = [handle.provide_input("manager", True, by=f"p{n}", wait=20) for n in range(10)]
        found = await asyncio.gather(*answers, return_exceptions=True)
        assert found.count(None) == 1
        late = [error for error in found if error is not None]
        assert all(isinstance(error, InputAlreadyProvided | InputNotPending) for error in late)
        assert (await handle.result(timeout=20))[2] == f"p{found.index(None)}"


async def test_escalation_is_a_second_wait(client: Client) -> None:
    """When nobody answers in time, somebody else is asked."""
    async with Worker(client, workflows=ALL):
        handle = await client.start(escalates)
        async with asyncio.timeout(20):
            while not await client.pending_inputs(to="boss"):
                await asyncio.sleep(0.01)
        assert not await client.pending_inputs(to="ann")
        await handle.provide_input("a", False)
        assert await handle.result(timeout=20) == [None, False]


async def test_what_the_worker_cannot_read_is_asked_again(client: Client) -> None:
    """The final word has the worker, whose instance decodes with the real type and re-asks."""
    from durable.model import forms

    async with Worker(client, workflows=ALL):
        handle = await client.start(asks)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(forms, "_checked", lambda _form, data: data)
            await handle.provide_input("address", "nonsense", wait=20)
        await handle.provide_input("address", {"street": "Main", "number": 1}, wait=20)
        await handle.provide_input("how", "post", wait=20)
        await handle.provide_input("extras", [], wait=20)
        assert (await handle.result(timeout=20)).startswith("Main 1")
