"""The Pythons on which histories are replayed: `python -m tests.golden.pythons` makes an environment for each.

They are those that durable supports and that are installed: on PATH, or below the root of pyenv.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = Path(sys.prefix) / "pythons"
"""Inside of the environment of this Python, so that whoever removes one removes all."""
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
_CLASSIFIER = "Programming Language :: Python :: 3."

SUPPORTED = [
    line.rpartition(" ")[2]
    for line in metadata("durable-sdk").get_all("Classifier", [])
    if line.startswith(_CLASSIFIER)
]


def python_of(version: str) -> Path | None:
    """One that can import durable; None where no environment was made for that version."""
    if version == OWN:
        return Path(sys.executable)
    python = ENVIRONMENTS / version / "bin" / "python"
    return python if python.exists() else None


def installed(version: str) -> Path | None:
    """A Python of that version, wherever it is."""
    return next((python for python in _candidates(version) if _is(python, version)), None)


def _candidates(version: str) -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for folder in sorted((pyenv / "versions").glob(f"{version}.*")):
        yield folder / "bin" / "python"


def _is(python: Path, version: str) -> bool:
    """Whether it starts, and is what its name says: a shim of pyenv may stand for nothing."""
    if not python.exists():
        return False
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def make(version: str, python: Path) -> None:
    """An environment with durable and what it needs."""
    folder = ENVIRONMENTS / version
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--editable", ROOT], check=True)


def main() -> None:
    ENVIRONMENTS.mkdir(exist_ok=True)
    for version in SUPPORTED:
        if version == OWN:
            continue
        python = installed(version)
        print(f"Python {version}: {python or 'not installed, left out'}", flush=True)
        if python is not None:
            make(version, python)


if __name__ == "__main__":
    main()
