"""What holds for all environments of one test session, and what they leave behind: for the pytest plugin.

The plugin loads this in every session of every project that has durable installed, so it loads nothing of durable.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest


@dataclass(slots=True)
class Left:
    """What an environment leaves to its test."""

    not_passed: int
    """How many tests had not passed when it was made."""
    timeline: str
    """What happened in it; empty once that is shown."""
    histories: Mapping[str, str]
    """What is kept of it, by the name of the file."""


@dataclass(slots=True)
class Session:
    """As pytest was started, and where it is."""

    seed: int = 0
    """`--durable-seed`: of environments that are given none."""
    record_to: Path | None = None
    """`--durable-record`: where the histories of their runs go."""
    is_watched: bool = False
    """Whether somebody takes up what is left."""
    not_passed: int = 0
    """How many tests have not passed so far."""
    left: list[Left] = field(default_factory=list[Left])
    _test: str = ""
    _made: Counter[str] = field(default_factory=Counter[str])

    def count(self, what: str) -> int:
        """How many of these the current test has made before."""
        test = current_test()
        if test != self._test:
            self._test = test
            self._made.clear()
        self._made[what] += 1
        return self._made[what] - 1

    def take_up(self, report: pytest.TestReport) -> None:
        """A phase of a test is over: show the runs of one that fails, keep the histories of one that passes.

        Whether it passes is not known before its fixtures have ended.
        """
        if report.failed or (report.when == "call" and not report.passed):
            self.not_passed += 1
        if report.when != "setup":
            self._show(report)
        if report.when == "teardown":
            self._keep(report)
            self.left.clear()
            self._made.clear()

    def _show(self, report: pytest.TestReport) -> None:
        failed = [each for each in self.left if each.not_passed != self.not_passed]
        told = "\n\n".join(each.timeline for each in failed if each.timeline)
        for each in failed:
            each.timeline = ""
        if told:
            report.sections.append((f"durable runs {report.when}", told))

    def _keep(self, report: pytest.TestReport) -> None:
        passed = [each for each in self.left if each.not_passed == self.not_passed]
        try:
            for each in passed:
                self._write(each.histories)
        except OSError as error:
            report.outcome = "failed"
            report.longrepr = f"--durable-record cannot write what this test has recorded: {error}"

    def _write(self, histories: Mapping[str, str]) -> None:
        if self.record_to is None or not histories:
            return
        self.record_to.mkdir(parents=True, exist_ok=True)
        for name, text in histories.items():
            (self.record_to / name).write_text(text, encoding="ascii")


SESSION: Final = Session()


def current_test() -> str:
    """The test that pytest is running, so that no two tests have runs of the same id; empty without pytest."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
