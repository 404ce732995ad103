"""What every command shares: the database it talks to, how it shows things, how it ends.

Exit codes: 0 done, 1 failed, 2 misuse, 130 stopped before the end (Ctrl-C). What was asked for goes to stdout,
what is said about it to stderr; an error is one line, `error: ...`, and never a traceback unless
`DURABLE_DEBUG` is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import update_wrapper, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

import click

from durable.cli.screen import Screen, Styled
from durable.telling import clean, plain

if TYPE_CHECKING:
    from durable import Client

P = ParamSpec("P")

URL_VARIABLE = "DURABLE_URL"
NO_URL = f"no database: give --url or set {URL_VARIABLE}, for example sqlite:///durable.db"

DONE, FAILED, MISUSE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Shell:
    """The surroundings of one command."""

    url: str | None = None
    as_json: bool = False
    out: Screen = field(default_factory=lambda: Screen.of(sys.stdout))
    err: Screen = field(default_factory=lambda: Screen.of(sys.stderr))

    def client(self) -> Client:
        """A client of the database asked for, not open yet."""
        if not self.url:
            raise click.UsageError(NO_URL)
        from durable import Client

        return Client(self.url)

    def json(self, value: object) -> None:
        """Write a value as JSON: valid also when there is nothing."""
        self.out.line(json.dumps(plain(value), indent=2, ensure_ascii=not self.out.unicode))

    def say(self, *parts: str | Styled) -> None:
        """Say something about what is done; it is not the answer, so it goes to stderr."""
        if not self.as_json:
            self.err.line(*parts)


def command(
    name: str, *, database: bool = True
) -> Callable[[Callable[Concatenate[Shell, P], None]], click.Command]:
    """Make a function a command; it gets its `Shell` first.

    Every command has `--json`, and `--url` unless it works on a `database` of its own.
    """

    def decorate(function: Callable[Concatenate[Shell, P], None]) -> click.Command:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            url, as_json = kwargs.pop("url", None), kwargs.pop("as_json")
            function(Shell(cast(str | None, url), bool(as_json)), *args, **kwargs)

        made = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(run)
        if database:
            made = click.option(
                "--url", envvar=URL_VARIABLE, help=f"The database [{URL_VARIABLE}]."
            )(made)
        return click.command(name)(made)

    return decorate


def asks(
    function: Callable[Concatenate[Shell, Client, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Shell, P], None]:
    """Run a coroutine function as a command's body, with an open client."""

    def run(shell: Shell, /, *args: P.args, **kwargs: P.kwargs) -> None:
        async def inside() -> None:
            async with shell.client() as client:
                await function(shell, client, *args, **kwargs)

        asyncio.run(inside())

    return update_wrapper(run, function)


def run_to_exit_code(program: click.Command, arguments: list[str] | None) -> int:
    """Run the program and turn whatever happens into an exit code and at most one line."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            code = program.main(arguments, prog_name="durable", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _complain(error.format_message(), MISUSE, hint=_usage_hint(error))
    except click.ClickException as error:
        return _complain(error.format_message(), FAILED)
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone, and the interpreter would complain about it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _complain(_message_of(error), FAILED, hint=_debug_hint(error))
    return code if isinstance(code, int) else DONE


def _complain(message: str, code: int, hint: str | None = None) -> int:
    screen = Screen.of(sys.stderr)
    screen.line(Styled("error: ", "red"), clean(message))
    if hint:
        screen.line(Styled("hint: ", "dim"), hint)
    return code


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Show a warning as one line: the line of code that it comes from is ours, not the user's."""
    Screen.of(sys.stderr).line(Styled("warning: ", "yellow"), clean(message))


def _message_of(error: Exception) -> str:
    """Ours say everything in their message; of others the class is part of what happened."""
    from durable import DurableError

    return str(error) if isinstance(error, DurableError) else f"{type(error).__name__}: {error}"


def _debug_hint(error: Exception) -> str | None:
    from durable import DurableError

    if os.environ.get("DURABLE_DEBUG"):
        traceback.print_exception(error)
        return None
    return None if isinstance(error, DurableError) else "DURABLE_DEBUG=1 shows the traceback"


def _usage_hint(error: click.UsageError) -> str | None:
    return f"see `{error.ctx.command_path} --help`" if error.ctx else None
