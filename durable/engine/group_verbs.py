"""The verbs for many calls at once: `ctx.parallel`, `ctx.map`, `ctx.race`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from durable.engine.calls import Call
from durable.engine.groups import ON_ERROR, forgo_all, run_all, run_in_shape, run_race
from durable.engine.verbs import Verbs
from durable.errors import NotAllowedInWorkflow
from durable.model.events import Outcome
from durable.model.runnable import Runnable
from durable.model.steps import Step, as_step

A1 = TypeVar("A1")
A2 = TypeVar("A2")
A3 = TypeVar("A3")
A4 = TypeVar("A4")
A5 = TypeVar("A5")
K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


class GroupVerbs(Verbs):
    """Many calls at once."""

    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> tuple[A1, A2]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2], Awaitable[A3]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> tuple[A1, A2, A3]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2], Awaitable[A3], Awaitable[A4]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> tuple[A1, A2, A3, A4]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2], Awaitable[A3], Awaitable[A4], Awaitable[A5]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> tuple[A1, A2, A3, A4, A5]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> tuple[Outcome[A1], Outcome[A2]]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2], Awaitable[A3]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> tuple[Outcome[A1], Outcome[A2], Outcome[A3]]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: tuple[Awaitable[A1], Awaitable[A2], Awaitable[A3], Awaitable[A4]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> tuple[Outcome[A1], Outcome[A2], Outcome[A3], Outcome[A4]]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: Mapping[K, Awaitable[T]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> dict[K, T]: ...
    @overload
    async def parallel(  # type: ignore[overload-overlap]
        self,
        calls: Mapping[K, Awaitable[T]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> dict[K, Outcome[T]]: ...
    @overload
    async def parallel(
        self,
        calls: Iterable[Awaitable[T]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> list[T]: ...
    @overload
    async def parallel(
        self,
        calls: Iterable[Awaitable[T]],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> list[Outcome[T]]: ...
    def parallel(
        self, calls: Any, /, *, limit: int | None = None, on_error: str = "fail_fast"
    ) -> Any:
        """Run calls side by side and wait for all of them; what they give, in the order and shape given.

        `calls` are of any kind that can be awaited (verbs, coroutines, tasks), in a mapping (a dict comes
        back), a tuple (a tuple) or any other iterable but a set (a list). With `limit=n` at most n of them
        run at once: when one ends the next one is taken from the iterable and started.

        `on_error="fail_fast"` raises the first error itself, after the others were cancelled and have ended
        their cleanup; calls that were not started yet never start. A member that somebody else cancels counts
        as an error: `CancelledError`, as when a cancelled task is awaited. `"complete_all"` waits for all and
        gives `Ok(value)` or `Err(error)` for each (for a member that somebody cancels `Err(CancelledError())`,
        as in `gather`); what is no `Exception`, such as KeyboardInterrupt, ends the group at once all the same.

        Whoever cancels the group cancels all its members; it is left when their cleanup has ended. An error
        that comes after the group's end was decided goes to the run's log.

        Raises `ValueError` for a `limit` that is not a positive int or an unknown `on_error`, `TypeError` for
        what is no iterable of awaitables, `NotAllowedInWorkflow` for a set, which has no order to replay.
        """
        _check("parallel", calls, limit, on_error)
        arguments = (calls, limit, on_error)
        return Call(
            self._instance.calls, self._begin_parallel, arguments, partial(forgo_all, calls)
        )

    def _begin_parallel(
        self, _call: Call, calls: Any, limit: int | None, on_error: str
    ) -> Coroutine[Any, Any, Any]:
        return run_in_shape(self._loop, calls, limit, on_error)

    @overload
    async def map(
        self,
        fn: Step[[T], R] | Runnable[T, R],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["fail_fast"] = "fail_fast",
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        fn: Step[[T], R] | Runnable[T, R],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> list[Outcome[R]]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> list[Outcome[R]]: ...
    @overload
    async def map(
        self,
        fn: Callable[[T], R],
        items: Iterable[T],
        /,
        *,
        limit: int | None = None,
        on_error: Literal["complete_all"],
    ) -> list[Outcome[R]]: ...
    def map(
        self, fn: Any, items: Any, /, *, limit: int | None = None, on_error: str = "fail_fast"
    ) -> Any:
        """Run `fn` for every item, side by side: a list of what they give, in the order of the items.

        A step or a plain function runs as a step (as in `ctx.step(fn, item)`), a workflow or job as a child
        run (as in `ctx.call(fn, item)`). With `limit=n` at most n run at once, and the next item is taken
        when there is room. `on_error` and errors are those of `parallel`; `DefinitionError` for an `fn` that
        cannot be a step, such as a lambda.
        """
        _check("map", items, limit, on_error)
        child = isinstance(fn, Runnable)
        if not child:
            as_step(fn)
        arguments = (fn, child, items, limit, on_error)
        return Call(self._instance.calls, self._begin_map, arguments)

    def _begin_map(
        self,
        call: Call,
        fn: Any,
        child: bool,
        items: Iterable[Any],
        limit: int | None,
        on_error: str,
    ) -> Coroutine[Any, Any, list[Any]]:
        verbs: Any = self  # together with those for steps and children
        make = verbs.call if child else verbs.step
        return run_all(self._loop, _calls_of_map(call, make, fn, items), limit, on_error)

    if TYPE_CHECKING:

        async def race(self, **calls: Awaitable[T]) -> tuple[str, T]: ...

    else:

        def race(self, /, **calls: Awaitable[Any]) -> Call:
            """Run calls side by side until the first ends: its name and its value.

            First is first in history; of several that end by the same event, the first one named here. The
            others are cancelled, and have ended their cleanup when this gives its answer. If the winner
            failed, its exception is raised; `CancelledError` if somebody else cancelled it. Whoever cancels
            the race cancels all. Raises `ValueError` without any call, `TypeError` for what is no awaitable.
            """
            if not calls:
                message = "ctx.race needs calls by name: ctx.race(paid=..., late=ctx.sleep(60))"
                raise ValueError(message)
            forgo = partial(forgo_all, calls)
            return Call(self._instance.calls, self._begin_race, (calls,), forgo)

    def _begin_race(
        self, _call: Call, calls: Mapping[str, Any]
    ) -> Coroutine[Any, Any, tuple[str, Any]]:
        return run_race(self._loop, calls)


def _calls_of_map(call: Call, make: Any, fn: Any, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        made = make(fn, item)
        made.code, made.line = call.code, call.line
        yield made


def _check(verb: str, many: object, limit: object, on_error: object) -> None:
    if isinstance(many, set | frozenset):
        message = (
            f"ctx.{verb} over a set: a set has no order that could be replayed, give it a list"
        )
        raise NotAllowedInWorkflow(message)
    if not isinstance(many, Iterable):
        message = f"ctx.{verb} takes several at once, e.g. a list, not one {type(many).__name__}"
        raise TypeError(message)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        message = f"ctx.{verb}(limit=) must be a positive int, not {limit!r}"
        raise ValueError(message)
    if on_error not in ON_ERROR:
        message = f"ctx.{verb}(on_error=) must be one of {', '.join(ON_ERROR)}, not {on_error!r}"
        raise ValueError(message)
