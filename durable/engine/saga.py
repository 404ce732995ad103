"""Sagas: what completed steps did is undone, last completed first, when their scope fails.

A scope belongs to an `async with ctx.saga()` block, or to the whole run. What is undone runs in a task of its
own that no cancellation reaches: a second cancel, a time-out round the block or a failing sibling leave it
alone, and are told when it is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from durable.errors import StepFailed
from durable.model import checks
from durable.model.commands import RunStep, Site, WriteLog
from durable.model.payload import fingerprint
from durable.model.steps import Step, as_step

if TYPE_CHECKING:
    from durable.engine.main_task import ProtectedTask
    from durable.engine.operations import StepOperation
    from durable.model.commands import Command

SCOPE: ContextVar[Scope | None] = ContextVar("durable_saga", default=None)
"""The innermost saga block round the code that is running; None: the run itself."""
_WARNING = 30  # logging.WARNING; the engine does not log, it asks for it


class Protector(Protocol):
    """The function of the run, as sagas see it."""

    @property
    def main(self) -> asyncio.Task[None] | None: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def leaving(self) -> bool: ...
    @property
    def returned(self) -> bool: ...
    def protected_task(self, coroutine: Coroutine[Any, Any, Any]) -> ProtectedTask[Any]: ...


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
    """One thing to be undone: `step` names what, `fn` and what `encode` gives are how."""

    __slots__ = ("encode", "fn", "late", "number", "site", "step")

    def __init__(
        self,
        number: int,
        step: str,
        fn: Step[..., Any],
        encode: Callable[[], bytes],
        site: Site,
        *,
        late: bool = False,
    ) -> None:
        self.number = number
        """Its place among all undos of the run, in the order of completion."""
        self.step = step
        self.fn = fn
        self.encode = encode
        """Its arguments, encoded."""
        self.site = site
        self.late = late
        """Its step completed after the code had given it up: it is undone in any case."""

    def command(self) -> RunStep:
        """What runs it; an exception when it cannot be given what it undoes."""
        encoded = self.encode()
        mark = fingerprint(encoded)
        return RunStep(0, self.fn, encoded, None, None, mark, self.site, undoes=self.step)


class Scope:
    """What has to be undone if a block, or the run, fails."""

    __slots__ = ("_inner", "_into", "_quiet", "next_number", "running", "undos")

    def __init__(self, next_number: Callable[[], int]) -> None:
        self.next_number = next_number
        """Of the next undo; one count for all scopes of a run."""
        self.undos: list[Undo] = []
        """In the order of completion."""
        self.running: dict[int, StepOperation] = {}
        """Steps with `compensate` that are under way, by command."""
        self._quiet: asyncio.Future[None] | None = None
        self._inner: dict[Scope, None] = {}
        """Open blocks directly inside, in other tasks than the one that leaves this block."""
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
        return not self.undos and not self.running

    def begun(self, operation: StepOperation) -> None:
        """A step with `compensate` is under way."""
        self.end.running[operation.cmd] = operation

    def completed(self, operation: StepOperation, result: bytes) -> None:
        """It completed: what it did can be undone."""
        scope = self.end
        scope.running.pop(operation.cmd, None)
        step = operation.command.step
        assert step.compensate is not None
        fn = as_step(step.compensate)

        def encode() -> bytes:
            # Decoded anew: what the workflow does with its own copy is not seen.
            value = step.result.decode(result, f"result of step {step.name}")
            return fn.arguments.encode((value,), {}, f"step {fn.name}")

        number = self.next_number()
        late = operation.given_up
        scope.undos.append(Undo(number, step.name, fn, encode, operation.site, late=late))
        scope.tell()

    def failed(self, operation: StepOperation) -> None:
        """It failed for good: there is nothing to undo."""
        scope = self.end
        scope.running.pop(operation.cmd, None)
        scope.tell()

    def add(self, undo: Undo) -> None:
        """To be undone whatever it is: `ctx.compensate`."""
        self.end.undos.append(undo)

    def opened(self, inner: Scope) -> None:
        """A block has begun inside of this one."""
        self._inner[inner] = None

    def merge_into(self, outer: Scope) -> None:
        """Its block has ended: what is in it, and what tasks that it began still do, belongs to `outer`."""
        outer._inner.pop(self, None)
        outer._take(self)
        outer._inner |= self._inner
        self._inner = {}
        self._into = outer

    def split(self) -> Scope:
        """A scope of its own for all that it holds now, in blocks inside of it too; what comes later stays here."""
        self.gather()
        doomed = Scope(self.next_number)
        doomed._take(self)
        return doomed

    def gather(self) -> None:
        """Take what open blocks inside of it hold."""
        for inner in self._inner:
            inner.gather()
            self._take(inner)

    def _take(self, other: Scope) -> None:
        """All that the other one holds."""
        interleaved = self.undos and other.undos and self.undos[-1].number > other.undos[0].number
        self.undos += other.undos
        if interleaved:
            self.undos.sort(key=attrgetter("number"))
        for operation in other.running.values():
            operation.scope = self
        self.running |= other.running
        other.undos, other.running = [], {}

    async def quiet(self) -> None:
        """Wait until no step is under way."""
        while self.running:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def tell(self) -> None:
        """Whoever waits for the last step that is under way may go on."""
        if not self.running and self._quiet is not None and not self._quiet.done():
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
        self.root = Scope(count().__next__)
        self.open: dict[Scope, None] = {self.root: None}
        """Scopes whose block has not ended, or is being undone."""
        self._by_error: list[tuple[BaseException, Unwound]] = []
        """What blocks undid, by the exception that left them."""
        self._aside = Unwound()
        """What blocks undid that were cancelled along with the run, or because another task failed."""

    @property
    def untouched(self) -> bool:
        """Nothing would have to be undone, whatever fails."""
        return all(scope.untouched for scope in self.open)

    def scope(self) -> Scope:
        """Where the code that is running is undone."""
        scope = SCOPE.get()
        return self.root if scope is None else scope.end

    def scope_for(self, step: Step[..., Any]) -> Scope:
        """Where a step with `compensate` is undone; `DefinitionError` when its undo cannot be a step."""
        checks.usable("step", as_step(step.compensate))
        return self.scope()

    def compensate(
        self,
        undo: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        site: Site,
    ) -> None:
        """Register an undo of its own; its arguments are taken as they are now."""
        step = as_step(undo)
        checks.usable("step", step)
        encoded = step.arguments.encode(args, kwargs, f"step {step.name}")
        scope = self.scope()
        scope.add(Undo(scope.next_number(), step.name, step, lambda: encoded, site))

    async def unwind(self, doomed: Scope, error: BaseException) -> None:
        """Undo what a block did that `error` leaves, out of reach of any cancellation.

        Raises `CancelledError` afterwards when somebody cancelled the caller meanwhile.
        """
        function = self._host.function
        self.open[doomed] = None
        task = function.protected_task(self.undo_all(doomed))
        interrupted: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as cancelled:
                interrupted = cancelled
        del self.open[doomed]
        unwound: Unwound = task.result()
        beside = function.stopped or asyncio.current_task() is not function.main
        if isinstance(error, GeneratorExit) and function.leaving:
            self._aside.add(unwound)  # of a generator that the end of the run closed
        elif isinstance(error, asyncio.CancelledError) and beside:
            # Nothing says any more which of the cancellations that end a run is this one's.
            self._aside.add(unwound)
        elif unwound:
            self._by_error.append((error, unwound))
        try:
            if interrupted is not None:
                raise interrupted
        finally:
            interrupted = None  # its traceback knows this frame: no circle is left

    async def undo_all(self, scope: Scope, *, only_late: bool = False) -> Unwound:
        """Undo what the scope did, last completed first; what fails does not stop the rest."""
        unwound = Unwound()
        await scope.quiet()
        undos, scope.undos = scope.undos, []
        while undos:
            undo = undos.pop()
            if only_late and not undo.late:
                continue
            try:
                await self._host.start_step(undo.command())
            except StepFailed:
                unwound.failed += 1
            except Exception as error:  # it cannot even be asked for: its arguments
                unwound.failed += 1
                text = "run %s: %s could not be undone: %s"
                told = (self._host.run_id, undo.step, error)
                self._host.emit(WriteLog(_WARNING, text, told, {}))
            else:
                unwound.undone += 1
        return unwound

    def discard(self) -> None:
        """No circle is left."""
        for scope in self.open:
            scope.running = {}
        self._by_error = []

    def undone_because_of(self, error: BaseException) -> Unwound:
        """What blocks undid before `error`, or what caused it, left the run."""
        total = Unwound()
        total.add(self._aside)
        causes = _with_causes(error)
        for known, unwound in self._by_error:
            if id(known) in causes:
                total.add(unwound)
        return total


def _with_causes(error: BaseException) -> dict[int, BaseException]:
    """The exception, what caused it, and the members of groups, by identity."""
    found: dict[int, BaseException] = {}
    left = [error]
    while left:
        one = left.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        left += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return found


class SagaBlock:
    """`async with ctx.saga()`: when the block is left by an exception, its completed steps are undone."""

    __slots__ = ("_entered", "_host", "_inside", "_outer", "_sagas", "_scope")

    def __init__(self, host: Host, sagas: Sagas) -> None:
        self._host = host
        self._sagas = sagas
        self._scope = Scope(sagas.root.next_number)
        self._inside: Scope | None = None
        """The block round this one, as code inside of it knows it."""
        self._outer = sagas.root
        self._entered = False

    async def __aenter__(self) -> None:
        if self._entered:
            message = "a saga block is entered once: call ctx.saga() again"
            raise RuntimeError(message)
        self._entered = True
        self._inside = SCOPE.get()
        self._outer = self._sagas.scope()
        self._outer.opened(self._scope)
        self._sagas.open[self._scope] = None
        SCOPE.set(self._scope)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> None:
        if self._host.discarded:
            return
        # No token: a block may be left in another task than it was entered in, as by an AsyncExitStack.
        SCOPE.set(self._inside)
        del self._sagas.open[self._scope]
        if kind is GeneratorExit and self._host.function.returned:
            error = None  # a generator that was left in the middle, by a run that has gone well
        doomed = None if error is None else self._scope.split()
        # What tasks that were begun inside do from now on belongs to what is round the block.
        self._scope.merge_into(self._outer.end)
        if error is not None and doomed is not None and not doomed.untouched:
            await self._sagas.unwind(doomed, error)
