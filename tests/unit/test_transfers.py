"""Payloads that arrive at a researcher in chunks."""

import hashlib
import os
import time
from dataclasses import dataclass, field, replace

import pytest

from common.ids import Digest, PartyId
from common.mailbox import Mail
from common.messages import Chunk, PayloadManifest
from common.payload.allowance import Allowance
from common.payload.store import PayloadStore, chunk_length
from researcher.transfers import Hopeless, Missing, Transfers

NORTH, SOUTH, LAB = PartyId("north"), PartyId("south"), PartyId("lab")
CHUNK = 1024
WEEK_S = 7 * 86400.0


@dataclass
class Post:
    """Mail of one node, with what became of it."""

    acked: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)

    def mail(self, data: bytes, manifest: PayloadManifest, index: int, sender: PartyId = NORTH) -> Mail:
        chunk = Chunk(sender=sender, recipients=(LAB,), manifest=manifest, index=index)
        start = index * CHUNK
        piece = memoryview(data)[start : start + chunk_length(manifest, index)]
        return Mail(
            chunk, piece, False, lambda: self.acked.append(index), lambda: self.rejected.append(index)
        )


def manifest_of(data: bytes) -> PayloadManifest:
    digest = Digest(hashlib.sha256(data).hexdigest())
    return PayloadManifest(sha256=digest, size_bytes=len(data), chunk_bytes=CHUNK, inline=False)


@pytest.fixture
def store(tmp_path):
    return PayloadStore(tmp_path / "transfers")


def take(transfers, post, data, manifest, *indices, sender=NORTH, at=0.0):
    found = None
    for index in indices:
        mail = post.mail(data, manifest, index, sender)
        found = transfers.take(mail, mail.message, at)
    return found


def test_chunks_may_come_before_the_reply_that_announces_them(store):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 3 * CHUNK
    manifest = manifest_of(data)

    assert take(transfers, post, data, manifest, 0, 1) is None
    assert not transfers.expect(manifest, NORTH, 0.0)
    assert manifest.sha256 == take(transfers, post, data, manifest, 2)
    assert [0, 1, 2] == post.acked


def test_a_silent_sender_is_asked_for_what_is_missing_and_one_that_sends_is_not(store):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 3 * CHUNK
    manifest = manifest_of(data)
    transfers.expect(manifest, NORTH, 0.0)
    take(transfers, post, data, manifest, 1, at=4.0)

    assert [] == transfers.overdue(8.0)
    assert [(NORTH, (0, 2))] == [(one.sender, one.indices) for one in transfers.overdue(9.0)]


def test_late_duplicates_of_what_was_collected_leave_nothing_behind(store, tmp_path):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 2 * CHUNK
    manifest = manifest_of(data)
    take(transfers, post, data, manifest, 0, 1)
    PayloadStore(tmp_path / "ledger").adopt(store, manifest.sha256)
    transfers.forget(manifest.sha256)

    assert take(transfers, post, data, manifest, 1) is None

    assert [0, 1, 1] == post.acked
    assert [] == list((tmp_path / "transfers").iterdir())


def test_one_that_was_collected_may_come_again_when_it_is_announced_again(store):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * CHUNK
    manifest = manifest_of(data)
    transfers.forget(manifest.sha256)

    transfers.expect(manifest, NORTH, 0.0)

    assert manifest.sha256 == take(transfers, post, data, manifest, 0)


def test_what_a_node_may_send_unannounced_is_bounded_and_others_do_not_suffer(store):
    transfers, post = Transfers(store, 5.0, allowance=Allowance(5 * CHUNK)), Post()
    one, two = b"a" * 3 * CHUNK, b"b" * 3 * CHUNK
    take(transfers, post, one, manifest_of(one), 0)

    take(transfers, post, two, manifest_of(two), 0)
    take(transfers, post, two, manifest_of(two), 1, sender=SOUTH)

    assert [0, 0, 1] == post.acked
    assert (1, 2) == store.missing(manifest_of(one))
    assert (0, 2) == store.missing(manifest_of(two))

    transfers.expect(manifest_of(two), NORTH, 0.0)  # now it may
    take(transfers, post, two, manifest_of(two), 0)
    assert (2,) == store.missing(manifest_of(two))


def test_what_nobody_wanted_for_a_week_is_forgotten(store, tmp_path):
    transfers, post = Transfers(store, 5.0, now=0.0), Post()
    whole, part = b"a" * CHUNK, b"b" * 2 * CHUNK
    take(transfers, post, whole, manifest_of(whole), 0)
    take(transfers, post, part, manifest_of(part), 0)
    transfers.sweep(transfers.deadline)
    assert store.has(manifest_of(whole).sha256)

    for path in (tmp_path / "transfers").iterdir():
        os.utime(path, (time.time() - WEEK_S - 60,) * 2)
    transfers.sweep(transfers.deadline)

    assert not store.has(manifest_of(whole).sha256)
    assert (0, 1) == store.missing(manifest_of(part))


def test_a_damaged_payload_is_asked_for_again_from_the_start(store):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 2 * CHUNK
    manifest = manifest_of(data)
    transfers.expect(manifest, NORTH, 0.0)
    take(transfers, post, b"y" * 2 * CHUNK, manifest, 0)

    missing = take(transfers, post, data, manifest, 1)

    assert Missing(NORTH, manifest.sha256, (0, 1)) == missing
    assert manifest.sha256 == take(transfers, post, data, manifest, 0, 1)


def test_a_payload_that_stays_damaged_is_given_up_and_leaves_nothing_behind(store, tmp_path):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 2 * CHUNK
    manifest, other = manifest_of(data), b"y" * 2 * CHUNK
    transfers.expect(manifest, NORTH, 0.0)

    found = [take(transfers, post, other, manifest, 0, 1) for _ in range(4)]

    again = Missing(NORTH, manifest.sha256, (0, 1))
    assert [again, again, Hopeless(manifest.sha256), None] == found
    assert [] == transfers.overdue(1000.0)
    assert [] == list((tmp_path / "transfers").iterdir())
    assert [0, 1] * 4 == post.acked


@pytest.mark.parametrize("change", [-1, 1], ids=["truncated", "oversized"])
def test_a_chunk_of_another_length_is_set_aside_and_asked_for_again(store, change):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 3 * CHUNK
    manifest = manifest_of(data)
    transfers.expect(manifest, NORTH, 0.0)
    take(transfers, post, data, manifest, 0)
    good = post.mail(data, manifest, 1)
    bad = replace(good, payload=memoryview(data)[: CHUNK + change])

    assert transfers.take(bad, bad.message, 0.0) is None

    assert [1] == post.rejected
    assert Missing(NORTH, manifest.sha256, (1,)) == take(transfers, post, data, manifest, 2)
    assert manifest.sha256 == take(transfers, post, data, manifest, 1)


def test_what_was_lost_before_the_last_chunk_is_asked_for_at_once(store):
    transfers, post, data = Transfers(store, 5.0), Post(), b"x" * 5 * CHUNK
    manifest = manifest_of(data)
    transfers.expect(manifest, NORTH, 0.0)

    assert Missing(NORTH, manifest.sha256, (1, 2)) == take(transfers, post, data, manifest, 3, 0, 4)
