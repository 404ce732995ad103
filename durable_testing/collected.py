"""`*.history.json` files as tests: each replays a recorded run against the code of today."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

import pytest

from durable.errors import DurableError
from durable.model import history
from durable.model.history_file import HistoryFile
from durable.model.runnable import Workflow
from durable.model.wire import decode_event
from durable_testing.replaying import read_history, replay


class RecordedRun(pytest.File):
    """A file with the history of one run."""

    def collect(self) -> Iterable[pytest.Item]:
        """One test."""
        yield Replay.from_parent(self, name="replay")  # pyright: ignore[reportUnknownMemberType]


class Replay(pytest.Item):
    """The code of the workflow goes the way of its history."""

    def runtest(self) -> None:
        """Fails with the explanation of `durable_testing.replay`."""
        file = read_history(self.path)
        report = replay(workflow_of(file, self.config.getini("durable_workflows")), file)
        if not report.ok:
            raise PartedError(report.explanation)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """The explanation says all; where it was raised says nothing."""
        if isinstance(excinfo.value, DurableError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Where the history is."""
        return self.path, None, f"replay of {self.path.name}"


class PartedError(DurableError):
    """Code and history part."""


def workflow_of(file: HistoryFile, modules: Sequence[str]) -> Workflow[Any, Any]:
    """The workflow of a history: `module:name` stands in the file, or its module in the configuration.

    `DurableError` where it is in neither.
    """
    named, _, attribute = file.workflow.rpartition(":")
    if named:
        found = getattr(import_module(named), attribute, None)
        if isinstance(found, Workflow):
            return found  # pyright: ignore[reportUnknownVariableType]
        message = f"the history of run {file.run_id} is of {file.workflow}, which is no workflow"
        raise DurableError(message)
    started = decode_event(file.rows[0])
    version = started.version if isinstance(started, history.RunStarted) else 1
    known = [each for module in modules for each in _workflows(module) if each.name == attribute]
    for workflow in known:
        if not workflow.pinned or workflow.version == version:
            return workflow
    message = (
        f"the history of run {file.run_id} is of workflow {attribute}, which is not in {list(modules)}: "
        "name its module in durable_workflows of pytest's configuration"
    )
    raise DurableError(message)


def _workflows(module: str) -> Iterator[Workflow[Any, Any]]:
    for found in vars(import_module(module)).values():
        if isinstance(found, Workflow):
            yield found
