"""Sagas: what completed steps did is undone, last completed first, when their scope fails.

A scope belongs to an `async with ctx.saga()` block, or to the whole run. What is undone runs in a task of its
own that no cancellation reaches: a second cancel, a time-out round the block or a failing sibling leave it
alone, and are told when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

from durable.errors import DurableError, StepFailed
from durable.model.commands import RunStep, Site, WriteLog
from durable.model.payload import fingerprint
from durable.model.steps import Step, as_step

if TYPE_CHECKING:
    from durable.engine.numbered import WorkflowTask
    from durable.engine.operations import StepOperation
    from durable.model.commands import Command

P = ParamSpec("P")

SCOPE: ContextVar[Scope | None] = ContextVar("durable_saga", default=None)
"""The innermost saga block round the code that is running; None: the run itself."""
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


class Protector(Protocol):
    """Who keeps a task from being cancelled."""

    def protected_task(self, coroutine: Coroutine[Any, Any, Any]) -> WorkflowTask[Any]: ...


class Host(Protocol):
    """The instance, as sagas see it."""

    run_id: str

    @property
    def discarded(self) -> bool: ...
    @property
    def function(self) -> Protector: ...
    def emit(self, command: Command) -> None: ...
    def start_step(self, command: RunStep) -> Awaitable[Any]: ...


class Undo:
    """One thing to be undone: `step` names what, `fn(*args, **kwargs)` how."""

    __slots__ = ("args", "encoded", "fn", "kwargs", "late", "site", "step")

    def __init__(
        self,
        step: str,
        fn: Step[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        site: Site,
        *,
        late: bool = False,
    ) -> None:
        self.step = step
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.site = site
        self.late = late
        """Its step completed after the code had given it up: it is undone in any case."""

    def command(self) -> RunStep:
        """What runs it; `PayloadError` when its arguments cannot be stored."""
        shape = self.fn.arguments
        encoded = shape.encode(self.args, self.kwargs, f"step {self.fn.name}")
        mark = fingerprint(encoded)
        return RunStep(0, self.fn, encoded, None, None, mark, self.site, undoes=self.step)


class Scope:
    """What has to be undone if a block, or the run, fails."""

    __slots__ = ("_into", "_quiet", "settling", "undos")

    def __init__(self) -> None:
        self.undos: list[Undo] = []
        """In the order of completion."""
        self.settling: dict[int, StepOperation] = {}
        """Steps under way that nobody waits for any more, by command."""
        self._quiet: asyncio.Future[None] | None = None
        self._into: Scope | None = None
        """Where it went when its block ended."""

    @property
    def end(self) -> Scope:
        """This scope, or the open one that it became a part of."""
        scope = self
        while scope._into is not None:
            scope = scope._into
        return scope

    @property
    def untouched(self) -> bool:
        return not self.undos and not self.settling

    def completed(self, operation: StepOperation, value: Any) -> None:
        """A step with `compensate` completed."""
        step = operation.command.step
        assert step.compensate is not None
        scope = self.end
        late = scope.settling.pop(operation.cmd, None) is not None
        undo = Undo(step.name, as_step(step.compensate), (value,), {}, operation.site, late=late)
        scope.undos.append(undo)
        scope.tell()

    def failed(self, operation: StepOperation) -> None:
        """A step with `compensate` failed for good: there is nothing to undo."""
        scope = self.end
        scope.settling.pop(operation.cmd, None)
        scope.tell()

    def settle(self, operation: StepOperation) -> None:
        """Nobody waits for the step any more: what becomes of it must be known all the same."""
        self.end.settling[operation.cmd] = operation

    def add(self, undo: Undo) -> None:
        """To be undone whatever it is: `ctx.compensate`."""
        self.end.undos.append(undo)

    def merge_into(self, outer: Scope) -> None:
        """The block succeeded: what it did is undone with what is round it."""
        outer.undos += self.undos
        outer.settling |= self.settling
        self.undos, self.settling = [], {}
        self._into = outer

    async def quiet(self) -> None:
        """Wait until no step is under way that nobody waits for."""
        while self.settling:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def tell(self) -> None:
        """Whoever waits for the last step that nobody else waits for may go on."""
        if not self.settling and self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)


class Unwound:
    """What an unwinding did."""

    __slots__ = ("failed", "undone")

    def __init__(self) -> None:
        self.undone = 0
        self.failed = 0

    def __bool__(self) -> bool:
        return bool(self.undone or self.failed)

    def add(self, other: Unwound) -> None:
        self.undone += other.undone
        self.failed += other.failed


class Sagas:
    """The scopes of a run."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.root = Scope()
        self._by_error: list[tuple[BaseException, Unwound]] = []
        """What blocks undid, by the exception that left them."""

    @property
    def untouched(self) -> bool:
        """Nothing would have to be undone, whatever fails."""
        scope = self.scope()
        return scope.untouched and self.root.untouched

    def scope(self) -> Scope:
        """Where the code that is running is undone."""
        scope = SCOPE.get()
        return self.root if scope is None else scope.end

    def compensate(
        self,
        undo: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        site: Site,
    ) -> None:
        """Register an undo of its own; its arguments are taken as they are now."""
        step = as_step(undo)
        encoded = step.arguments.encode(args, kwargs, f"step {step.name}")
        args, kwargs = step.arguments.decode(encoded, f"step {step.name}")
        self.scope().add(Undo(step.name, step, args, kwargs, site))

    async def unwind(self, scope: Scope, error: BaseException) -> None:
        """Undo what a block did that `error` leaves, out of reach of any cancellation.

        Raises `CancelledError` afterwards when somebody cancelled the caller meanwhile.
        """
        task = self._host.function.protected_task(self.undo_all(scope))
        interrupted: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
        unwound: Unwound = task.result()
        if unwound:
            self._by_error.append((error, unwound))
        if interrupted is not None:
            raise interrupted

    async def undo_all(self, scope: Scope, *, only_late: bool = False) -> Unwound:
        """Undo what the scope did, last completed first; what fails does not stop the rest."""
        unwound = Unwound()
        await scope.quiet()
        while undo := _next(scope, only_late=only_late):
            try:
                await self._host.start_step(undo.command())
            except StepFailed:
                unwound.failed += 1
            except DurableError as error:  # it cannot even be asked for: its arguments
                unwound.failed += 1
                text = "run %s: %s could not be undone: %s"
                told = (self._host.run_id, undo.step, error)
                self._host.emit(WriteLog(_WARNING, text, told, {}))
            else:
                unwound.undone += 1
            await scope.quiet()
        return unwound

    def undone_because_of(self, error: BaseException) -> Unwound:
        """What blocks undid before `error`, or what caused it, left the run."""
        total = Unwound()
        causes = _with_causes(error)
        for known, unwound in self._by_error:
            if any(known is cause for cause in causes):
                total.add(unwound)
        return total


def _next(scope: Scope, *, only_late: bool) -> Undo | None:
    if not only_late:
        return scope.undos.pop() if scope.undos else None
    for place in range(len(scope.undos) - 1, -1, -1):
        if scope.undos[place].late:
            return scope.undos.pop(place)
    return None


def _with_causes(error: BaseException) -> list[BaseException]:
    """The exception, what caused it, and the members of groups."""
    found: list[BaseException] = []
    left = [error]
    while left:
        one = left.pop()
        if any(one is other for other in found):
            continue
        found.append(one)
        left += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return found


class SagaBlock:
    """`async with ctx.saga()`: when the block is left by an exception, its completed steps are undone."""

    __slots__ = ("_host", "_outer", "_sagas", "_scope", "_token")

    def __init__(self, host: Host, sagas: Sagas) -> None:
        self._host = host
        self._sagas = sagas
        self._scope = Scope()
        self._outer: Scope | None = None
        self._token: Token[Scope | None] | None = None

    async def __aenter__(self) -> None:
        if self._token is not None:
            message = "a saga block is entered once: call ctx.saga() again"
            raise RuntimeError(message)
        self._outer = self._sagas.scope()
        self._token = SCOPE.set(self._scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        assert self._token is not None
        assert self._outer is not None
        if self._host.discarded:
            return
        SCOPE.reset(self._token)
        if error is None:
            self._scope.merge_into(self._outer)
            return
        try:
            await self._sagas.unwind(self._scope, error)
        finally:
            # What a task that was begun inside completes later belongs to what is round the block.
            self._scope.merge_into(self._outer)
