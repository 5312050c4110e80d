"""A payload over 20 Mbit/s and 300 ms that is cut at random moments and at 90 percent."""

from __future__ import annotations

import random
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from deploy.broker import PrivateBroker
from deploy.federation import Federation
from tests.benchmarks.yardstick import MIB
from tests.support.broker import RunningFederation, populate
from tests.support.proxy import Way
from tests.support.slow import Carried, carry

RATE = 20e6 / 8
DELAY_S = 0.3
CUTS = 4


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Carry 200 MiB up and down, or 10."""
    ways: tuple[Way, ...] = ("up", "down")
    mib = 10 if quick else 200
    found = {way: measure(mib * MIB, way) for way in ways}
    table = Table(
        *("way", "MB", "s", "at best s", "sent / payload", "chunks twice"),
        title=f"20 Mbit/s, {DELAY_S * 1000:.0f} ms, cut {CUTS} times and at 90 %",
    )
    for way, one in found.items():
        table.add_row(
            way,
            f"{one.size_bytes / 1e6:.0f}",
            f"{one.seconds:.0f}",
            f"{one.size_bytes / RATE:.0f}",
            f"{one.passed_bytes / one.size_bytes:.3f}",
            f"{one.duplicates}",
        )
    return [{"way": way, **asdict(one)} for way, one in found.items()], table


def measure(size: int, way: Way) -> Carried:
    """Carry a payload of so many bytes.

    Raises:
        RuntimeError: If it did not arrive whole.
    """
    rng = random.Random(7)  # noqa: S311 - moments of cuts
    cuts = [*(rng.random() for _ in range(CUTS)), 0.9]
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder:
        federation = Federation.create(Path(folder) / "federation", "bench")
        populate(federation)
        with PrivateBroker(federation, disposable=True) as broker:
            running = RunningFederation(federation, broker.endpoint)
            carried = carry(running, Path(folder), size, way=way, rate=RATE, delay=DELAY_S, cuts=cuts)
    if not carried.whole:
        raise RuntimeError("the payload did not arrive")
    return carried
