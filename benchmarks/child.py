"""One measurement in a process of its own: `python -m benchmarks.child SPEC.json RESULT.json`.

Started by the orchestrator so that every measurement has clean caches and memory, in the virtual
environment of the system that it measures.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from benchmarks import drive
from benchmarks.size import size

ON_SYSTEM = {**drive.KINDS, "size": size}
"""What is measured on both systems by the same code; every other kind is a module of its own."""


async def on_system(spec: dict[str, Any]) -> dict[str, Any]:
    """Run one of the driver's workloads on the system that `spec` names."""
    module = importlib.import_module(f"benchmarks.on_{spec['system']}")
    open_system: drive.OpenSystem = module.open_system
    async with open_system(spec["url"], spec["options"]) as system:
        result = await ON_SYSTEM[spec["kind"]](system, spec)
        return result | {"used": system.used}


def main() -> None:
    """Read the spec, measure, write the result."""
    logging.disable(logging.CRITICAL)
    spec = json.loads(Path(sys.argv[1]).read_text())
    if spec["kind"] in ON_SYSTEM:
        result = asyncio.run(on_system(spec))
    else:
        result = asyncio.run(importlib.import_module(f"benchmarks.{spec['kind']}").measure(spec))
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
