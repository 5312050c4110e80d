"""Carry one payload over a line that is slow, far and cut again and again."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.ids import Digest, PartyId
from common.limits import CHUNK_BYTES
from common.mailbox import Mail, Mailbox
from common.messages import Chunk, PayloadManifest
from common.payload.store import PayloadStore
from common.settings import Timeouts
from tests.support.broker import RunningFederation
from tests.support.proxy import Proxy, Way

DEADLINE_S = 600.0


@dataclass(frozen=True)
class Carried:
    """What it took."""

    size_bytes: int
    seconds: float
    passed_bytes: int
    """What went over the line in the direction of the payload, headers and TLS included."""
    duplicates: int
    """Chunks that came more than once."""
    whole: bool


def carry(
    running: RunningFederation,
    folder: Path,
    size: int,
    *,
    way: Way,
    rate: float,
    delay: float,
    cuts: Sequence[float],
    chunk_bytes: int = CHUNK_BYTES,
    timeouts: Timeouts | None = None,
) -> Carried:
    """Send a payload between researcher alice and node north, whose line is bad.

    Args:
        running: The federation.
        folder: Where payloads go.
        size: Bytes of the payload.
        way: `up` from the node to the researcher, `down` to the node.
        rate: Bytes a second.
        delay: Seconds one way.
        cuts: Shares of the payload after which the line is cut.
        chunk_bytes: Bytes of a chunk.
        timeouts: How long to wait before connecting anew, for instance.
    """
    alice, north = PartyId("alice"), PartyId("north")
    path, manifest = _payload(folder, size, chunk_bytes)
    store, done, seen = PayloadStore(folder / "arrived"), threading.Event(), []
    left = sorted(cuts)
    with Proxy(running.endpoint.port) as line:
        line.rate(rate)
        line.delay(delay)

        def receive(mail: Mail) -> None:
            if isinstance(mail.message, Chunk):
                seen.append(mail.message.index)
                if store.accept(mail.message, mail.payload):
                    done.set()
                if left and len(set(seen)) >= left[0] * manifest.chunks:
                    left.pop(0)
                    line.cut()
            mail.ack()

        options = {} if timeouts is None else {"timeouts": timeouts}
        parties = {
            alice: running.kit(alice, **options),
            north: running.kit(north, port=line.port, **options),
        }
        sender, reader = (north, alice) if way == "up" else (alice, north)
        mailboxes = {
            party: Mailbox.of_kit(kit, running.transport(party, port=kit.connection.port, **options))
            for party, kit in parties.items()
        }
        started = time.monotonic()
        try:
            mailboxes[reader].start(receive)
            mailboxes[sender].start(lambda mail: mail.ack())
            mailboxes[sender].send_payload(path, manifest, [reader]).result(DEADLINE_S)
            whole = done.wait(DEADLINE_S)
            seconds = time.monotonic() - started
        finally:
            for mailbox in mailboxes.values():
                mailbox.close()
            store.close()
        passed = line.passed(way)
    return Carried(size, seconds, passed, len(seen) - len(set(seen)), whole)


def _payload(folder: Path, size: int, chunk_bytes: int) -> tuple[Path, PayloadManifest]:
    path, digest, left = folder / "payload", hashlib.sha256(), size
    with path.open("wb") as file:
        while left:
            block = os.urandom(min(left, CHUNK_BYTES))
            file.write(block)
            digest.update(block)
            left -= len(block)
    sha256 = Digest(digest.hexdigest())
    return path, PayloadManifest(sha256=sha256, size_bytes=size, chunk_bytes=chunk_bytes, inline=False)
