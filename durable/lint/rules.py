"""The rules: a code each, what it finds, what comes of it, and what to write instead.

The hundreds are families: 1 values that a replay cannot see again, 2 effects that belong into steps, 3 calls,
4 exceptions, 5 state and order, 9 the reading itself. A code keeps its meaning for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is looked for; a message is the offender, what `happens`, and what to `write`."""

    code: str
    finds: str
    happens: str
    write: str
    by_default: bool = True

    def message(self, what: str) -> str:
        """Return the line that is shown for `what`, a piece of code."""
        return f"{what} {self.happens}: {self.write}"


_ALL = (
    Rule(
        "DUR101",
        "`time.time()`, `datetime.now()`, `date.today()`, `time.monotonic()`, ...",
        "reads the wall clock, which a replay finds at another time",
        "write `ctx.now()`",
    ),
    Rule(
        "DUR102",
        "`random.*`, `numpy.random.*`, `Random()` without a seed",
        "draws other numbers on every replay",
        "write `ctx.random`",
    ),
    Rule(
        "DUR103", "`uuid1()`, `uuid4()`, ...", "is another id on every replay", "write `ctx.uuid()`"
    ),
    Rule(
        "DUR104",
        "`secrets.*`, `os.urandom()`, `SystemRandom`",
        "is another secret on every replay",
        "draw it in a step, or write `ctx.random` if it need not be secret",
    ),
    Rule(
        "DUR105",
        "`os.environ`, `os.getenv()`, `sys.argv`, `os.getpid()`, `platform.*`",
        "differs from one worker process to another",
        "read it in a step, or pass it as input",
    ),
    Rule(
        "DUR106",
        "`hash()`, `id()`",
        "is another number in every process",
        "use a key that is part of the data",
    ),
    Rule(
        "DUR201",
        "`time.sleep()`",
        "stops every run of the worker, and again on replay",
        "write `await ctx.sleep(...)`",
    ),
    Rule(
        "DUR202",
        "`requests`, `httpx`, `aiohttp`, `urllib.request`, `socket`, database drivers, SDKs, ...",
        "talks to the world again on every replay",
        "do it in a step: `await ctx.step(...)`",
    ),
    Rule(
        "DUR203",
        "`open()`, `Path.read_text()`, `os.listdir()`, `shutil.*`, `input()`, ...",
        "touches files again on every replay, perhaps on another machine",
        "do it in a step: `await ctx.step(...)`",
    ),
    Rule(
        "DUR204",
        "`subprocess.*`, `os.system()`, `asyncio.create_subprocess_exec()`, ...",
        "acts on processes again on every replay",
        "do it in a step: `await ctx.step(...)`",
    ),
    Rule(
        "DUR205",
        "`threading.*`, executors, `asyncio.to_thread()`, `run_in_executor()`, `asyncio.run()`, ...",
        "leaves the workflow's own event loop, and cannot be replayed",
        "make it a step: a sync one runs in a thread",
    ),
    Rule(
        "DUR206",
        "a `Client`, made or used",
        "cannot be used inside a workflow",
        "write `ctx.start`, `ctx.call` or `ctx.send_event`, or use it in a step",
    ),
    Rule(
        "DUR207",
        "`logging`, `structlog`, `loguru`",
        "says it again on every replay",
        "write `ctx.log`, which is silent then",
    ),
    Rule(
        "DUR208",
        "`current_step()`",
        "is there only inside a step",
        "write `ctx.info`, `ctx.run_id` or `ctx.log`",
    ),
    Rule(
        "DUR301",
        "a verb of `ctx`, or another coroutine, that nobody awaits",
        "does nothing until it is awaited",
        "write `await`",
    ),
    Rule(
        "DUR302",
        "a step that is called as a function",
        "is a step, and is not kept when called as a function",
        "write `await ctx.step(...)`",
    ),
    Rule(
        "DUR303",
        "`asyncio.create_task()` or `gather()` whose result is dropped",
        "is cancelled when the workflow returns, and its errors are lost",
        "await it, or use `asyncio.TaskGroup`",
    ),
    Rule(
        "DUR304",
        "a lambda or `partial` as a step",
        "has no name for the history",
        'write a function, or `step(..., name="...")`',
    ),
    Rule(
        "DUR305",
        "a function as a step that uses variables of the workflow around it",
        "which is not part of what is compared on replay",
        "pass it as an argument",
    ),
    Rule(
        "DUR306",
        "`ctx` as an argument of a step, an event or a child",
        "cannot be stored",
        "pass the values that are needed, such as `ctx.run_id`",
    ),
    Rule(
        "DUR307",
        "`ctx.sleep_until(datetime(...))` without a time zone",
        "is refused: nobody knows which moment a naive datetime means",
        "write `datetime(..., tzinfo=UTC)`",
    ),
    Rule(
        "DUR401",
        "`except:`, `except BaseException:` or `suppress(BaseException)` round an `await`, without `raise`",
        "swallows a cancellation",
        "write `except Exception:`, or `raise` at its end",
    ),
    Rule(
        "DUR402",
        "`except asyncio.CancelledError:` round an `await`, with neither `raise` nor `return`",
        "goes on with a run that is to stop, and will not be told again",
        "`raise` after the cleanup, or `return`",
    ),
    Rule(
        "DUR403",
        "`return`, `break` or `continue` that leaves a `finally` round an `await`",
        "swallows a cancellation and every other exception",
        "put it after the `try`",
    ),
    Rule(
        "DUR501",
        "calls made in the order of a set",
        "has another order in every process",
        "write `sorted(...)`, or keep a list or a dict",
    ),
    Rule(
        "DUR502",
        "a global of the module that something changes",
        "is shared by all runs of a process and is not part of the history",
        "use an argument, a result, or `ctx.set_state`",
    ),
    Rule(
        "DUR503",
        "a mutable default argument",
        "is shared by all runs of a process and is not part of the history",
        "write `None`, and make it inside",
    ),
    Rule(
        "DUR900",
        "a file that cannot be read or parsed",
        "cannot be checked",
        "mend the file",
    ),
    Rule(
        "DUR901",
        "a `# durable: ignore` that suppresses nothing (only with `--extend-select DUR901`)",
        "suppresses nothing here",
        "remove it",
        by_default=False,
    ),
)

RULES: Mapping[str, Rule] = {rule.code: rule for rule in _ALL}
"""Every rule by its code."""
