"""What sealing costs: CPU time of sealing and opening everything that a round of a large model moves, as a share of the round."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from common.ids import PartyId
from common.limits import CHUNK_BYTES
from common.security.identity import Identity
from common.security.sealing import Sealer
from common.transport.topology import Lane
from tests.benchmarks import yardstick
from tests.benchmarks.trials import Trial
from tests.support.parties import make_identities, make_roster

MIB_OF_MODEL: Final = 100
NODES: Final = 4


def run(*, quick: bool) -> tuple[dict[str, Any], Table]:
    """Measure a round, and sealing and opening of what it moves, one after the other in one thread."""
    rounds = 1 if quick else 3
    with (
        tempfile.TemporaryDirectory(prefix="warren-bench-") as folder,
        Trial(Path(folder), NODES, MIB_OF_MODEL * yardstick.MIB // 4) as trial,
    ):
        trial.run(1)
        outcome = trial.run(rounds)
    cpu_s = sum(outcome.used.cpu_s.values()) / rounds
    seal, seal_all, open_ = _per_chunk()
    # The model is sealed once for all nodes, each update once; all of them are opened.
    sealing_s = MIB_OF_MODEL * (seal_all + NODES * seal + 2 * NODES * open_)
    found = {
        "model_mib": MIB_OF_MODEL,
        "nodes": NODES,
        "round_s": min(record.duration_s or 0.0 for record in outcome.records),
        "cpu_s": cpu_s,
        "sealing_cpu_s": sealing_s,
        "share": sealing_s / cpu_s,
        "seal_ms_per_mib": 1000 * seal,
        "open_ms_per_mib": 1000 * open_,
    }
    table = Table(
        *("MiB x nodes", "round s", "CPU s", "sealing CPU s", "share", "seal ms/MiB", "open ms/MiB"),
        title="Cost of sealing, in a round over RabbitMQ with mutual TLS",
    )
    table.add_row(
        f"{MIB_OF_MODEL} x {NODES}",
        f"{found['round_s']:.2f}",
        f"{cpu_s:.2f}",
        f"{sealing_s:.2f}",
        f"{100 * found['share']:.1f} %",
        f"{1000 * seal:.2f}",
        f"{1000 * open_:.2f}",
    )
    return found, table


def _per_chunk() -> tuple[float, float, float]:
    """Return the CPU seconds of sealing a chunk for one, sealing it for all nodes, and opening it."""
    roles = {"lab": "researcher"} | {f"node{number}": "node" for number in range(NODES)}
    identities: dict[str, Identity] = make_identities(roles)
    roster = make_roster(identities, roles)
    lab, node = Sealer(identities["lab"], roster), Sealer(identities["node0"], roster)
    chunk, everybody = os.urandom(CHUNK_BYTES), [PartyId(f"node{number}") for number in range(NODES)]
    sealed = lab.seal(Lane.BULK, everybody, chunk)
    return (
        _cpu_s(lambda: node.seal(Lane.BULK, [PartyId("lab")], chunk)),
        _cpu_s(lambda: lab.seal(Lane.BULK, everybody, chunk)),
        _cpu_s(lambda: node.open(Lane.BULK, PartyId("lab"), sealed)),
    )


def _cpu_s(work: Any, times: int = 100) -> float:
    work()
    started = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - started) / times
