"""`python -m benchmarks [--quick] [--only NAME...] [--out FILE]`: measure everything, print the table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures, machine, noise, plan, report
from benchmarks.runner import ROOT, Runner
from benchmarks.server import Databases, databases

DBOS_PYTHON = "DURABLE_BENCH_DBOS_PYTHON"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    names = sorted({one.name for one in plan.measurements(quick=True)})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: a test of the benchmark")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join(names)}")
    parser.add_argument("--system", nargs="+", choices=["durable", "dbos", "temporal", "raw"])
    parser.add_argument("--store", nargs="+", choices=list(plan.STORES))
    parser.add_argument("--out", type=Path, help="write machine, samples and figures as JSON")
    parser.add_argument(
        "--dbos-python",
        type=Path,
        help=f"Python that has dbos and temporalio installed (default: ${DBOS_PYTHON} or .venv-bench)",
    )
    asked = parser.parse_args(words)
    if not chosen(asked):
        parser.error("nothing matches that")
    return asked


def chosen(asked: argparse.Namespace) -> list[plan.Measurement]:
    """The measurements that match; names match from their beginning."""
    only = tuple(asked.only or ("",))
    return [
        one
        for one in plan.measurements(quick=asked.quick)
        if one.name.startswith(only)
        and one.system in (asked.system or [one.system])
        and one.store in (asked.store or [one.store])
    ]


def find_dbos(asked: Path | None) -> Path | None:
    """The Python of DBOS, None when there is none."""
    named = asked or os.environ.get(DBOS_PYTHON)
    python = Path(named) if named else ROOT / ".venv-bench" / "bin" / "python"
    return python.absolute() if python.exists() else None


def measure(asked: argparse.Namespace, made: Databases, dbos_python: Path | None) -> Runner:
    """Do it all, one after the other, saying how far it is."""
    runner = Runner(made, dbos_python)
    todo = chosen(asked)
    for store in plan.STORES if dbos_python and not asked.quick else ():
        if any(one.system == "dbos" and one.store == store for one in todo):
            print(f"finding the fastest settings of DBOS on {store}", file=sys.stderr, flush=True)
            runner.tune_dbos(store)
    for count, one in enumerate(todo, 1):
        runner.run(one)
        record = runner.records[-1]
        outcome = record.get("error", "").strip().splitlines()
        text = f"FAILED: {outcome[-1]}" if outcome else f"{record['seconds']:.1f} s"
        others = record["cores_used_by_others"]
        text += f"   (others used {others:.1f} cores)" if others > noise.NOISY else ""
        where = f"{one.name} {one.system} {one.store}"
        print(f"[{count}/{len(todo)}] {where:40} {text}", file=sys.stderr, flush=True)
    return runner


def main() -> int:
    """The command; 1 when a measurement failed."""
    asked = arguments()
    began = time.monotonic()
    dbos_python = find_dbos(asked.dbos_python)
    about: dict[str, Any] = machine.about(dbos_python)
    if about["busy"]:
        print(f"warning: load average {about['load_at_start']}: busy machine", file=sys.stderr)
    if about["filesystem"] == "tmpfs":
        print("warning: the databases lie in memory: commits cost nothing", file=sys.stderr)
    with databases() as made:
        about["postgresql"] = made.about()
        runner = measure(asked, made, dbos_python)
    book = figures.read(runner.records)
    print(_headline(about, quick=asked.quick))
    for part in (report.figures, report.replays, report.limits, report.targets):
        print("\n" + part(book))
    noisy = sum(one["cores_used_by_others"] > noise.NOISY for one in runner.records)
    seconds = time.monotonic() - began
    print(
        f"\n{seconds:.0f} s; {noisy} of {len(runner.records)} measurements were disturbed by others"
    )
    if asked.out:
        data = {"quick": asked.quick, "machine": about, **report.as_data(book)}
        asked.out.write_text(json.dumps(data | {"measurements": runner.records}, indent=1) + "\n")
    failed = [record for record in runner.records if record["result"] is None]
    for record in failed:
        print(
            f"\n{record['name']} {record['system']} {record['store']}:\n{record['error']}",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _headline(about: dict[str, Any], *, quick: bool) -> str:
    server = about["postgresql"]["version"].split(" (")[0].removesuffix(",")
    others = about["packages"]["dbos"] or {}
    dbos = others.get("dbos", "not installed")
    temporal = others.get("temporalio", "not installed")
    size = "quick run: figures prove nothing" if quick else "full run"
    return (
        f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {about['filesystem']}; "
        f"Python {about['python']}, {server}, SQLite {about['sqlite']}, DBOS {dbos}, "
        f"temporalio {temporal}; "
        f"commit {about['commit']}; {size}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
