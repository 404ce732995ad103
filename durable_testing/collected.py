"""`*.history.json` files as tests: each replays a recorded run against the code of today."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from durable.errors import DurableError
from durable_testing.replaying import read_history, replay, workflow_of


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
