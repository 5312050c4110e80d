"""How long a round is held up when something is killed: from the kill to the first sign that the round goes on."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.faults.ordeal import KINDS
from tests.faults.storms import weather

SEED = 20261


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Kill each kind of process 3 or 10 times, each time when the round goes on after the time before."""
    found = []
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder, weather(Path(folder), SEED) as trial:
        for kind in KINDS:
            kills = trial.storm([kind] * (3 if quick else 10), hasty=0.0)
            back = sorted(kill.back_s for kill in kills if kill.back_s is not None)
            found.append(
                {
                    "killed": kind,
                    "kills": len(kills),
                    "measured": len(back),  # what had answered already holds nothing up
                    "p50_s": statistics.median(back) if back else None,
                    "longest_s": max(back, default=None),
                }
            )
    table = Table("killed", "times", "p50 s", "longest s", title="From a kill until the round goes on")
    for one in found:
        seconds = ("-" if one[name] is None else f"{one[name]:.1f}" for name in ("p50_s", "longest_s"))
        table.add_row(one["killed"], f"{one['measured']}", *seconds)
    return found, table
