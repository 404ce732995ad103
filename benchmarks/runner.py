"""Runs measurements, each in a child process with a fresh database, and keeps what they answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import noise, plan
from benchmarks.server import Databases

ROOT = Path(__file__).resolve().parent.parent

DBOS_TRIALS: dict[str, list[dict[str, Any]]] = {
    plan.POSTGRES: [
        {"pool": 20, "threads": 20},
        {"pool": 20, "threads": 64},
        {"pool": 8, "threads": 8},
        {"pool": 64, "threads": 64},
        {"pool": 20, "threads": 64, "listen_notify": False},
    ],
    plan.SQLITE: [
        {"pool": 1, "threads": 1},
        {"pool": 1, "threads": 4},
        {"pool": 8, "threads": 16},
    ],
}
"""Settings of DBOS that are tried before it is measured; everything else is in `on_dbos.DEFAULTS`."""


class Failed(Exception):
    """A child ended without a result; the message is the end of its error output."""


class Runner:
    """The measurements of one run of the benchmark."""

    def __init__(self, databases: Databases, others_python: Path | None) -> None:
        self._databases = databases
        self._pythons = {"dbos": others_python, "temporal": others_python}
        self._dbos_options: dict[str, dict[str, Any]] = {}
        self.records: list[dict[str, Any]] = []

    def run(self, measurement: plan.Measurement) -> dict[str, Any] | None:
        """Do one measurement and keep its record; None when it failed, which the record tells."""
        python = self._pythons.get(measurement.system, Path(sys.executable))
        before = noise.read(self._databases.server_pid)
        record: dict[str, Any] = {
            "name": measurement.name,
            "kind": measurement.kind,
            "system": measurement.system,
            "store": measurement.store,
            "spec": measurement.spec,
        }
        result: dict[str, Any] | None = None
        try:
            result = self._child(python, measurement)
        except Failed as error:
            record["error"] = str(error)
        after = noise.read(self._databases.server_pid)
        record["seconds"] = round(after.clock - before.clock, 2)
        record["cores_used_by_others"] = round(after.others_since(before), 2)
        record["result"] = result
        self.records.append(record)
        return result

    def tune_dbos(self, store: str) -> None:
        """Find the fastest settings of DBOS on this store; later measurements use them."""
        fastest = 0.0
        for trial in DBOS_TRIALS[store]:
            result = self.run(plan.tuning(store, trial))
            speed = result["levels"][0]["steps_per_s"] if result else 0.0
            if speed > fastest:
                fastest = speed
                self._dbos_options[store] = trial

    def _child(self, python: Path | None, measurement: plan.Measurement) -> dict[str, Any]:
        if python is None:
            raise Failed("no environment for DBOS and Temporal: see benchmarks/README.md")
        options = measurement.options
        if measurement.system == "dbos" and not options:
            options = self._dbos_options.get(measurement.store, {})
        with (
            self._databases.fresh(measurement.store) as url,
            tempfile.TemporaryDirectory() as folder,
        ):
            spec, out = Path(folder) / "spec.json", Path(folder) / "out.json"
            about = {
                "kind": measurement.kind,
                "system": measurement.system,
                "url": url,
                "options": options,
            }
            spec.write_text(json.dumps(measurement.spec | about))
            command = [str(python), "-m", "benchmarks.child", str(spec), str(out)]
            errors = _run(command, measurement.timeout)
            if not out.exists():
                raise Failed(errors)
            result: dict[str, Any] = json.loads(out.read_text())
            return result


def _run(command: list[str], timeout: float) -> str:
    """Run a child in a process group of its own, so that its children end with it; its error output."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        errors = f"no result after {timeout:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return errors[-2000:] or f"exit code {process.returncode}"
