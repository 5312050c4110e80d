"""Print every measurement as a table, and as JSON when asked: `python -m tests.benchmarks [--json FILE] [NAME ...]`."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import round_overhead

CONSOLE = Console()


def rounds(quick: bool) -> list[dict]:  # noqa: FBT001 - the only option there is
    """Round overhead for 2, 4 and 8 nodes."""
    found = [round_overhead.measure(nodes, 20 if quick else 100) for nodes in (2, 4, 8)]
    table = Table(
        "nodes",
        "median ms",
        "p90 ms",
        "start to start ms",
        "CPU ms",
        "agent",
        "worker",
        "researcher",
        "broker",
        "first round s",
        title="Round overhead, 1,000 parameters, RabbitMQ with mutual TLS",
    )
    for one in found:
        cpu, peak, took = one["cpu_ms_per_round"], one["peak_rss_mb"], one["round_ms"]
        shown = [
            f"{one['nodes']}",
            f"{took['median']:.1f}",
            f"{took['p90']:.1f}",
            f"{took['between_starts']:.1f}",
            f"{cpu['all']:.1f}",
            *(
                f"{cpu.get(kind, 0):.1f} ms, {peak.get(kind, 0):.0f} MB"
                for kind in ("agent", "worker", "researcher", "broker")
            ),
            f"{one['first_round_s']['closed']:.1f}",
        ]
        table.add_row(*shown)
    CONSOLE.print(table)
    return found


BENCHMARKS = {"rounds": rounds}


def main() -> None:
    """Run the benchmarks that were named, or all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    options = parser.parse_args()
    found = {name: BENCHMARKS[name](options.quick) for name in options.names or BENCHMARKS}
    if options.json:
        found["machine"] = {"python": platform.python_version(), "system": platform.platform()}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
