"""Holds the public API to its types: pyright and mypy, both strict, read the files beside this one.

`accept_*.py` must pass as it stands. In `refuse_*.py` each line that users must not write carries a
`type: ignore` for the error that mypy shall find; both checkers report an ignore that is not needed.
Lines that need a feature which is not built yet stand in `waiting.txt`, and leave it once they hold.

    python -m tests.typing.check             everything holds, or what does not
    python -m tests.typing.check --refused   the lines that are refused now, as `waiting.txt` has them
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FILES = sorted([*HERE.glob("accept_*.py"), *HERE.glob("refuse_*.py")])

_MYPY_LINE = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<message>.*)$")


@dataclass(frozen=True)
class Complaint:
    """What a checker says of a line."""

    checker: str
    file: str
    line: int
    message: str

    @property
    def source(self) -> str:
        """The line as `waiting.txt` has it."""
        lines = (HERE / self.file).read_text().splitlines()
        return f"{self.file}: {lines[self.line - 1].strip()}"

    def __str__(self) -> str:
        return f"tests/typing/{self.file}:{self.line}: {self.checker}: {self.message}"


def _run(*command: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):  # 1: it found errors
        sys.exit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def mypy() -> Iterator[Complaint]:
    """What mypy strict says of the files here."""
    options = ("--strict", "--config-file=", "--cache-dir=.mypy_cache/typing", "--no-error-summary")
    layout = ("--explicit-package-bases", "--follow-imports=silent")
    for line in _run("mypy", *options, *layout, *map(str, FILES)).splitlines():
        found = _MYPY_LINE.match(line)
        if found is not None:
            yield Complaint("mypy", Path(found["file"]).name, int(found["line"]), found["message"])


def pyright() -> Iterator[Complaint]:
    """What pyright strict says of the files here."""
    told = _run("pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(HERE))
    report = json.loads(told)
    if report["summary"]["filesAnalyzed"] != len(FILES):
        sys.exit(f"pyright read {report['summary']['filesAnalyzed']} files, not {len(FILES)}")
    for each in report["generalDiagnostics"]:
        line = each["range"]["start"]["line"] + 1
        message = each["message"].partition("\n")[0]
        yield Complaint("pyright", Path(each["file"]).name, line, message)


def waiting() -> tuple[int, list[str]]:
    """How many lines may wait, and which do."""
    text = (HERE / "waiting.txt").read_text()
    limit = re.search(r"^# At most (\d+) lines", text, re.MULTILINE)
    if limit is None:
        sys.exit("waiting.txt must say `# At most N lines`")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return int(limit[1]), lines


def problems(complaints: list[Complaint]) -> Iterator[str]:
    """Everything that is not as it should be."""
    limit, lines = waiting()
    told = {each.source for each in complaints}
    yield from (str(each) for each in complaints if each.source not in lines)
    for line in lines:
        if line not in told:
            yield f"waiting.txt: holds now, take it out: {line}"
    for line in {line for line in lines if lines.count(line) > 1}:
        yield f"waiting.txt: stands there twice: {line}"
    if len(lines) != limit:
        word = "the list may only shrink" if len(lines) > limit else "write the new number"
        yield f"waiting.txt: has {len(lines)} lines and says {limit}: {word}"


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    complaints = [*mypy(), *pyright()]
    if "--refused" in sys.argv:
        places = sorted({(each.file, each.line, each.source) for each in complaints})
        print(*(source for _, _, source in places), sep="\n")
        return 0
    found = list(problems(complaints))
    for problem in found:
        print(problem)
    if not found:
        print(f"{len(FILES)} files hold; {waiting()[0]} lines wait for features")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
