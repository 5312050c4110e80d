"""What the broker and pika alone cost: the messages of a round, with nothing in them and nobody to read them.

`python -m tests.benchmarks.bare KIT PEER CHUNKS` stands where a node would: it sends back what it gets. No body is sealed, parsed, hashed or
kept; what is left are mutual TLS, RabbitMQ's durable queues, confirms and acks. No round of this product can be cheaper
than that on the same machine.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from common.ids import PartyId
from common.limits import CHUNK_BYTES, SEND_WINDOW_CHUNKS
from common.security.kit import Kit
from common.transport.amqp import AmqpTransport
from common.transport.base import Delivery
from common.transport.topology import Inbox, Lane
from deploy.broker import PrivateBroker
from deploy.federation import Federation
from tests.benchmarks.processes import cpu_between, snapshot
from tests.support.broker import RunningFederation, populate
from tests.support.inbox import Collector, settled

_LAB: Final = PartyId("lab")
_SMALL: Final = 6 * 1024
"""A request or an update with 1,000 parameters, as it goes to the broker."""
_RECEIPT: Final = 512
_KINDS: Final = ("researcher", "broker", "agent")


def run(*, quick: bool) -> tuple[list[dict[str, Any]], Table]:
    """Measure rounds of four nodes, small ones and one of 100 MiB."""
    mib = 10 if quick else 100
    small, large = measure(4, 20 if quick else 100, 0), measure(4, 3, mib)
    table = Table(
        "round",
        "median ms",
        "CPU ms",
        *(f"{kind} CPU ms" for kind in _KINDS),
        title="The broker and pika alone",
    )
    for name, one in (("4 x 1,000 parameters", small), (f"4 x {mib} MiB", large)):
        cpu = one["cpu_ms_per_round"]
        table.add_row(
            name,
            f"{one['round_ms']:.1f}",
            f"{sum(cpu.values()):.1f}",
            *(f"{cpu[kind]:.1f}" for kind in _KINDS),
        )
    return [small, large], table


def measure(nodes: int, rounds: int, chunks: int) -> dict[str, Any]:
    """Send what rounds send, and return time and CPU of one.

    Args:
        nodes: How many, each a process.
        rounds: How many, after three that are not counted.
        chunks: Chunks of the model; 0 for one that rides in the message.
    """
    names = [PartyId(f"node{number}") for number in range(nodes)]
    with _clients(names, chunks) as (lab, collector):
        for _ in range(3):
            _round(lab, collector, names, chunks)
        before, times = snapshot(), []
        for _ in range(rounds):
            started = time.perf_counter()
            _round(lab, collector, names, chunks)
            times.append((time.perf_counter() - started) * 1000)
        used = cpu_between(before, snapshot())
    return {
        "nodes": nodes,
        "chunks": chunks,
        "round_ms": statistics.median(times),
        "cpu_ms_per_round": {kind: used[kind] / rounds * 1000 for kind in _KINDS},
    }


def _round(lab: AmqpTransport, collector: Collector, nodes: list[PartyId], chunks: int) -> None:
    """Broadcast, wait for an answer of each node, and tell each that it came."""
    collector.deliveries.clear()
    _send(lab, nodes, chunks)
    collector.until(lambda: len(collector.deliveries) == len(nodes) * (chunks + 1), 120)
    receipt = os.urandom(_RECEIPT)
    settled(*(lab.publish(Lane.CONTROL, [node], receipt) for node in nodes))


def _send(transport: AmqpTransport, recipients: list[PartyId], chunks: int) -> None:
    """Send the chunks of a payload, then the message that speaks of it."""
    body, unconfirmed = os.urandom(CHUNK_BYTES) if chunks else b"", deque()
    for _ in range(chunks):
        unconfirmed.append(transport.publish(Lane.BULK, recipients, body))
        if len(unconfirmed) >= SEND_WINDOW_CHUNKS:
            settled(unconfirmed.popleft())
    settled(*unconfirmed, transport.publish(Lane.CONTROL, recipients, os.urandom(_SMALL)))


@contextmanager
def _clients(nodes: list[PartyId], chunks: int) -> Iterator[tuple[AmqpTransport, Collector]]:
    """Start a broker and a process for each node, and connect."""
    with tempfile.TemporaryDirectory(prefix="warren-bench-") as folder, ExitStack() as stack:
        federation = Federation.create(Path(folder) / "federation", "bench")
        populate(federation, (_LAB,), tuple(nodes))
        running = RunningFederation(
            federation, stack.enter_context(PrivateBroker(federation, disposable=True)).endpoint
        )
        for node in nodes:
            command = [sys.executable, "-m", __name__, str(running.kit_path(node)), _LAB, str(chunks)]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            assert process.stdout.readline() == b"connected\n"
        lab, collector = running.transport(_LAB), Collector()
        stack.callback(lab.close)
        lab.start(
            collector.receive,
            [Inbox(_LAB, node, lane) for node in nodes for lane in (Lane.CONTROL, Lane.BULK)],
            collector.listen,
        )
        collector.until_connected()
        yield lab, collector


def _node(kit: Kit, peer: PartyId, chunks: int) -> None:
    """Answer every request, until standard input ends."""
    transport = AmqpTransport(kit.connection, kit.ssl_context())
    requests, connected = threading.Semaphore(0), threading.Event()

    def receive(delivery: Delivery) -> None:
        delivery.ack()
        if delivery.lane is Lane.CONTROL and len(delivery.body) == _SMALL:
            requests.release()

    def answer() -> None:
        while requests.acquire():
            _send(transport, [peer], chunks)

    listen: Callable[[bool, str], None] = lambda up, _detail: connected.set() if up else None  # noqa: E731
    party = transport.party
    transport.start(receive, [Inbox(party, peer, lane) for lane in (Lane.CONTROL, Lane.BULK)], listen)
    threading.Thread(target=answer, daemon=True).start()
    connected.wait(60)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _node(Kit.load(Path(sys.argv[1]), now=time.time()), PartyId(sys.argv[2]), int(sys.argv[3]))
