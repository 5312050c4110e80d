"""Print every measurement as a table, and as JSON when asked: `python -m tests.benchmarks [--quick] [--json FILE] [NAME ...]`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    bare,
    heart,
    large_models,
    loading,
    many_nodes,
    memory_per_node,
    recovery,
    round_overhead,
    sealing,
    slow_links,
    yardstick,
)

_WIDTH = 200
"""Columns of what goes to a file."""

BENCHMARKS = {
    "rounds": round_overhead.run,
    "bare": bare.run,
    "100": partial(large_models.run, 100, 4),
    "500": partial(large_models.run, 500, 2),
    "1024": partial(large_models.run, 1024, 4),
    "sealing": sealing.run,
    "memory": memory_per_node.run,
    "nodes": many_nodes.run,
    "slow": slow_links.run,
    "recovery": recovery.run,
    "heart": heart.run,
    "loading": loading.run,
}
"""Each returns its figures and a table of them; a number is a model of so many MiB."""


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
        found, table = BENCHMARKS[name](quick=options.quick)
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
