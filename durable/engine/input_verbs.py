"""Verbs that ask people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from durable.engine.calls import Call
from durable.engine.verbs import Verbs
from durable.engine.waits import NO_DEFAULT, checked_timeout, due_at
from durable.model.commands import StartWait
from durable.model.duration import Duration, seconds_of
from durable.model.events import Decision
from durable.model.forms import Approval, Choice, InputForm, Question, Typed, pack_form
from durable.model.naming import checked_name, checked_text
from durable.model.value import value

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from typing_extensions import TypeForm


T = TypeVar("T")
D = TypeVar("D")

_SHORTEST_REMINDER = 1.0


@value
class Asking:
    """How something is asked, whatever it is."""

    name: str
    prompt: str
    metadata: Mapping[str, Any]
    to: tuple[str, ...]
    remind: float | None
    timeout: float | None
    default: Any


class InputVerbs(Verbs):
    """Verbs that ask people."""

    @overload
    async def wait_for_input(
        self,
        name: str,
        type: TypeForm[T],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> T: ...
    @overload
    async def wait_for_input(
        self,
        name: str,
        type: TypeForm[T],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> T | D: ...
    def wait_for_input(
        self,
        name: str,
        type: Any,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody for a value of `type`, under a name, and wait for the answer (`client.provide_input`).

        `prompt`, `metadata` (plain data) and `to` (names of people or groups) are for whoever shows the
        question. Every `remind` (seconds or a timedelta, at least one second) without an answer writes a line
        to the run's log. After `timeout` it raises `WaitTimeout`, or gives `default`.
        """
        how = _asking("wait_for_input", name, prompt, metadata, to, remind, timeout, default)
        return Call(self._instance.calls, self._begin_input, (partial(Typed, "input", type), how))

    @overload
    async def wait_for_form(
        self,
        name: str,
        form: type[T],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> T: ...
    @overload
    async def wait_for_form(
        self,
        name: str,
        form: type[T],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> T | D: ...
    def wait_for_form(
        self,
        name: str,
        form: Any,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody for the fields of a class (a pydantic model, a dataclass). As `wait_for_input`."""
        how = _asking("wait_for_form", name, prompt, metadata, to, remind, timeout, default)
        return Call(self._instance.calls, self._begin_input, (partial(Typed, "form", form), how))

    @overload
    async def wait_for_text(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> str: ...
    @overload
    async def wait_for_text(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> str | D: ...
    def wait_for_text(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody for words. As `wait_for_input`."""
        how = _asking("wait_for_text", name, prompt, metadata, to, remind, timeout, default)
        return Call(self._instance.calls, self._begin_input, (partial(Typed, "text", str), how))

    @overload
    async def wait_for_approval(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> Decision: ...
    @overload
    async def wait_for_approval(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> Decision | D: ...
    def wait_for_approval(
        self,
        name: str,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody for a yes or no; the `Decision` is true when approved, and says by whom and when. As `wait_for_input`."""
        how = _asking("wait_for_approval", name, prompt, metadata, to, remind, timeout, default)
        return Call(self._instance.calls, self._begin_input, (Approval, how))

    @overload
    async def wait_for_choice(
        self,
        name: str,
        choices: type[T] | Sequence[T] | Mapping[T, str],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> T: ...
    @overload
    async def wait_for_choice(
        self,
        name: str,
        choices: type[T] | Sequence[T] | Mapping[T, str],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> T | D: ...
    def wait_for_choice(
        self,
        name: str,
        choices: Any,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody to choose from a sequence, an Enum class, or a mapping from value to label. As `wait_for_input`."""
        how = _asking("wait_for_choice", name, prompt, metadata, to, remind, timeout, default)
        return Call(
            self._instance.calls, self._begin_input, (partial(Choice, choices, several=False), how)
        )

    @overload
    async def wait_for_choices(
        self,
        name: str,
        choices: type[T] | Sequence[T] | Mapping[T, str],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
    ) -> list[T]: ...
    @overload
    async def wait_for_choices(
        self,
        name: str,
        choices: type[T] | Sequence[T] | Mapping[T, str],
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration,
        default: D,
    ) -> list[T] | D: ...
    def wait_for_choices(
        self,
        name: str,
        choices: Any,
        /,
        *,
        prompt: str = "",
        metadata: Mapping[str, Any] | None = None,
        to: str | Sequence[str] | None = None,
        remind: Duration | None = None,
        timeout: Duration | None = None,
        default: Any = NO_DEFAULT,
    ) -> Any:
        """Ask somebody for any number of these choices; given in the order in which they are offered. As `wait_for_choice`."""
        how = _asking("wait_for_choices", name, prompt, metadata, to, remind, timeout, default)
        return Call(
            self._instance.calls, self._begin_input, (partial(Choice, choices, several=True), how)
        )

    def _begin_input(self, call: Call, ask: Callable[[], Question], how: Asking) -> Awaitable[Any]:
        question = ask()
        form = InputForm(
            question.kind,
            question.type,
            how.prompt,
            how.metadata,
            question.schema,
            question.choices,
            how.to,
            how.remind,
        )
        packed = pack_form(form)
        instance = self._instance
        names, due = (how.name,), due_at(instance.now, how.timeout)
        return instance.mailbox.wait(
            lambda cmd: StartWait(cmd, "input", names, "one", None, due, call.site, packed, how.to),
            question.read,
            default=how.default,
            remind=how.remind,
        )


def _asking(
    verb: str,
    name: str,
    prompt: str,
    metadata: Mapping[str, Any] | None,
    to: str | Sequence[str] | None,
    remind: Duration | None,
    timeout: Duration | None,
    default: Any,
) -> Asking:
    whom = (to,) if isinstance(to, str) else tuple(to or ())
    for one in whom:
        checked_text(one, f"{verb}(to=)")
    seconds = None if remind is None else seconds_of(remind, f"{verb}(remind=)")
    if seconds is not None and seconds < _SHORTEST_REMINDER:
        message = f"{verb}(remind=) must be at least a second, but is {seconds:g} seconds"
        raise ValueError(message)
    return Asking(
        checked_name(name, "an input"),
        prompt,
        dict(metadata or {}),
        whom,
        seconds,
        checked_timeout(timeout, default, verb),
        default,
    )
