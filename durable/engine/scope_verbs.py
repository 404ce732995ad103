"""Verbs for what surrounds code: sagas, shields, and the run itself."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

from durable.engine.calls import Call
from durable.engine.function import Shield
from durable.engine.saga import SagaBlock
from durable.engine.verbs import Verbs
from durable.errors import InvalidInput, PayloadError
from durable.model.commands import Site
from durable.model.naming import checked_name
from durable.model.payload import ANY

P = ParamSpec("P")


class ScopeVerbs(Verbs):
    """Verbs for what surrounds code: sagas, shields, and the run itself."""

    # -- scopes

    def saga(self) -> AbstractAsyncContextManager[None]:
        """`async with ctx.saga():` an exception that leaves the block undoes the steps completed in it.

        Those with `compensate` are undone, last completed first, and so is what `ctx.compensate` registered;
        then the exception goes on. One such step that is still running is awaited, and undone first. Tasks
        begun inside belong to the block. Without an exception all of it is undone when what is round the
        block fails. The run itself is such a scope.
        """
        return SagaBlock(self._instance, self._instance.sagas)

    def shield(self) -> AbstractAsyncContextManager[None]:
        """`async with ctx.shield():` holds a cancel of the run back until the block ends.

        A passed deadline of the run is held back, too. A time-out round the block, or a cancelled task, is not.
        """
        return Shield(self._instance.function)

    def compensate(self, undo: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Have `undo(*args, **kwargs)` run as a step when the saga block, or the run, fails.

        The arguments are stored as they are now; `PayloadError` when they cannot be.
        """
        frame = sys._getframe(1)  # noqa: SLF001  the user's line
        site = Site(frame.f_code, frame.f_lineno)
        self._instance.sagas.compensate(undo, args, kwargs, site)

    # -- the run itself

    def set_state(self, key: str, value: object, /) -> None:
        """Publish a value of the run under `key`, for `client.state`; it is stored as it is now.

        It becomes visible with the next commit. `PayloadError` when it cannot be stored.
        """
        key = checked_name(key, "a state")
        frame = sys._getframe(1)  # noqa: SLF001  the user's line
        site = Site(frame.f_code, frame.f_lineno)
        self._instance.set_state(key, ANY.encode(value, f"state {key}"), site)

    if TYPE_CHECKING:
        # What a checker must see to know that nothing after it runs, and to find a forgotten await.

        async def continue_as_new(self, input: object = None, /) -> NoReturn: ...

    else:

        def continue_as_new(self, input: object = None, /) -> Call:
            """Begin the run anew with another input and an empty history; it never returns.

            The run's id stays, and so do its children, and what has come for it and was not taken; tasks that
            are still running just end. Raises `InvalidInput` when the input does not fit the workflow, and
            `NotAllowedInWorkflow` while there are steps that would have to be undone if the run failed.
            """
            return Call(self._instance.calls, self._begin_continue, (input,))

    def _begin_continue(self, _call: Call, input: object) -> Awaitable[Any]:
        instance = self._instance
        workflow = instance.workflow
        try:
            payload = workflow.input.encode(input, f"input of workflow {workflow.name}")
        except PayloadError as error:
            raise InvalidInput(str(error)) from error
        instance.continue_as_new(payload)
        return instance.loop.create_future()  # nobody ever resolves it

    def patched(self, change_id: str, /) -> bool:
        """Whether the code takes the new way of a change: False where the run has gone the old way already.

        `if ctx.patched("x"): new... else: old...`. The first answer holds until the run ends or continues as new.
        """
        return self._instance.patched(checked_name(change_id, "a patch"))
