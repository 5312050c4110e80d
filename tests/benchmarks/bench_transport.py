"""Measure what a message costs on a real RabbitMQ with mutual TLS.

    python -m tests.benchmarks.bench_transport [--json]

One process publishes and reads. CPU time is that of both sides together, and of the broker. `alone` sends the next
message when the last one was delivered and confirmed; `stream` keeps a window of unconfirmed ones. The runs alternate
between the receive size that the product uses and pika's own, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from common.ids import PartyId
from common.transport import amqp_connection
from common.transport.topology import Inbox, Lane
from deploy.broker import PrivateBroker
from deploy.federation import Federation
from tests.support.broker import RunningFederation, populate
from tests.support.inbox import Collector, settled

LAB, NODE = PartyId("lab"), PartyId("north")
STOCK_READ_BYTES = 4096
RUNS = 5


@dataclass(frozen=True)
class Cost:
    """Medians over the runs."""

    name: str
    read_bytes: int
    size_bytes: int
    wall_ms: float
    client_cpu_ms: float
    broker_cpu_ms: float

    @property
    def mb_per_s(self) -> float:
        return self.size_bytes / 1e3 / self.wall_ms

    def per_mb(self, milliseconds: float) -> float:
        return milliseconds / (self.size_bytes / 1e6)


class Pair:
    """A researcher that publishes to a node, both in this process."""

    def __init__(self, running: RunningFederation) -> None:
        self._collector = Collector()
        self._lab, self._node = running.transport(LAB), running.transport(NODE)
        self._node.start(
            self._collector.receive, [Inbox(NODE, LAB, lane) for lane in (Lane.CONTROL, Lane.BULK)]
        )
        self._lab.start(self._collector.receive, [])

    def alone(self, body: bytes, count: int) -> None:
        for _ in range(count):
            self._collector.deliveries.clear()
            settled(self._lab.publish(Lane.CONTROL, [NODE], body))
            self._collector.until(lambda: len(self._collector.deliveries) == 1)

    def stream(self, body: bytes, count: int, window: int, lane: Lane) -> None:
        self._collector.deliveries.clear()
        unconfirmed = deque()
        for _ in range(count):
            unconfirmed.append(self._lab.publish(lane, [NODE], body))
            if len(unconfirmed) >= window:
                settled(unconfirmed.popleft())
        settled(*unconfirmed)
        self._collector.until(lambda: len(self._collector.deliveries) == count)

    def close(self) -> None:
        self._lab.close()
        self._node.close()


def cpu_ms(pid: int) -> float:
    """Return the CPU time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


def measure(running: RunningFederation) -> list[Cost]:
    small, large = os.urandom(2048), os.urandom(1024 * 1024)
    work: dict[str, tuple[bytes, int, Callable[[Pair, bytes, int], None]]] = {
        "2 KiB alone": (small, 400, Pair.alone),
        "2 KiB stream": (small, 2000, lambda pair, body, n: pair.stream(body, n, 256, Lane.CONTROL)),
        "1 MiB stream": (large, 60, lambda pair, body, n: pair.stream(body, n, 8, Lane.BULK)),
    }
    samples: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    product = amqp_connection._READ_BYTES
    for run in range(RUNS + 1):
        for read_bytes in (product, STOCK_READ_BYTES):
            amqp_connection._READ_BYTES = read_bytes
            pair = Pair(running)
            for name, (body, count, load) in work.items():
                before = time.perf_counter(), time.process_time(), cpu_ms(running.endpoint.pid)
                load(pair, body, count)
                sample = (
                    (time.perf_counter() - before[0]) * 1000 / count,
                    (time.process_time() - before[1]) * 1000 / count,
                    (cpu_ms(running.endpoint.pid) - before[2]) / count,
                )
                if run > 0:  # the first run warms up
                    samples.setdefault((name, read_bytes), []).append(sample)
            pair.close()
    amqp_connection._READ_BYTES = product
    return [
        Cost(name, read_bytes, len(work[name][0]), *map(statistics.median, zip(*rows, strict=True)))
        for (name, read_bytes), rows in sorted(samples.items())
    ]


def table(costs: list[Cost]) -> str:
    lines = [
        f"{'load':<14}{'read bytes':>11}{'wall ms':>9}{'client CPU ms':>15}{'broker CPU ms':>15}{'MB/s':>8}{'client ms/MB':>14}"
    ]
    lines += [
        f"{cost.name:<14}{cost.read_bytes:>11}{cost.wall_ms:>9.2f}{cost.client_cpu_ms:>15.3f}{cost.broker_cpu_ms:>15.3f}"
        f"{cost.mb_per_s:>8.0f}{cost.per_mb(cost.client_cpu_ms):>14.2f}"
        for cost in costs
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation.create(Path(folder) / "federation", "bench")
        populate(federation, (LAB,), (NODE,))
        with PrivateBroker(federation, disposable=True) as broker:
            costs = measure(RunningFederation(federation, broker.endpoint))
    text = json.dumps([asdict(cost) for cost in costs], indent=2) if options.json else table(costs)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
