"""Print every measurement as a table, and as JSON when asked: `python -m tests.benchmarks [--quick] [--json FILE] [NAME ...]`."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import yardstick

_WIDTH = 200
"""Columns of what goes to a file."""

BENCHMARKS: dict[str, tuple[str, tuple[int, ...]]] = {
    "rounds": ("round_overhead", ()),
    "bare": ("bare", ()),
    "100": ("large_models", (100, 4)),
    "500": ("large_models", (500, 2)),
    "1024": ("large_models", (1024, 4)),
    "sealing": ("sealing", ()),
    "memory": ("memory_per_node", ()),
    "nodes": ("many_nodes", ()),
    "slow": ("slow_links", ()),
    "recovery": ("recovery", ()),
    "heart": ("heart", ()),
    "loading": ("loading", ()),
}
"""The module of each, whose `run` returns figures and a table of them, and its size: so many MiB, so many nodes. A module is imported
when it is used: what others need would be in the memory that is measured."""


def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="smaller, with fewer repetitions")
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    figures: dict[str, object] = {"python": platform.python_version(), "system": platform.platform()}
    for name in options.names or BENCHMARKS:
        machine = yardstick.measure()
        console.print(_yardstick(machine))
        module, size = BENCHMARKS[name]
        found, table = importlib.import_module(f"tests.benchmarks.{module}").run(*size, quick=options.quick)
        console.print(table)
        figures[name] = {"machine": machine, "found": found}
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _yardstick(machine: dict[str, float]) -> Table:
    table = Table(*(name.replace("_", " ") for name in machine), title="This machine, now")
    table.add_row(*(f"{value:.{0 if value >= 10 else 2}f}" for value in machine.values()))
    return table


if __name__ == "__main__":
    main()
