"""Payloads on disk: whole or arriving, named by their digest."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DigestMismatchError, MalformedMessageError, PayloadMissingError
from common.ids import Digest, PartyId
from common.messages import Chunk, PayloadManifest
from common.payload.store import PayloadStore, chunk_length

CHUNK = 1024


def manifest_of(data: bytes) -> PayloadManifest:
    digest = Digest(hashlib.sha256(data).hexdigest())
    return PayloadManifest(sha256=digest, size_bytes=len(data), chunk_bytes=CHUNK, inline=False)


def chunk(manifest: PayloadManifest, index: int) -> Chunk:
    return Chunk(sender=PartyId("north"), recipients=(PartyId("alice"),), manifest=manifest, index=index)


def piece(data: bytes, manifest: PayloadManifest, index: int) -> bytes:
    start = index * CHUNK
    return data[start : start + chunk_length(manifest, index)]


@pytest.fixture
def store(tmp_path):
    return PayloadStore(tmp_path / "payloads")


def test_a_payload_is_found_under_its_digest(store):
    digest = store.put(b"weights!")

    assert b"weights!" == store.path(digest).read_bytes()
    assert [digest] == list(store.digests())


def test_a_file_is_moved_into_the_store(store, tmp_path):
    source = tmp_path / "update"
    source.write_bytes(b"weights!")

    digest = store.add(source)

    assert hashlib.sha256(b"weights!").hexdigest() == digest
    assert store.has(digest)
    assert not source.exists()


def test_a_missing_payload_is_named(store):
    with pytest.raises(PayloadMissingError, match="WRN-804"):
        store.path(Digest("0" * 64))


@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=8, max_size=6 * CHUNK), seed=st.integers(0, 1000))
def test_chunks_in_any_order_and_repeated_make_the_payload(tmp_path_factory, data, seed):
    store = PayloadStore(tmp_path_factory.mktemp("payloads"))
    manifest = manifest_of(data)
    order = [*range(manifest.chunks), random.Random(seed).randrange(manifest.chunks)]  # noqa: S311 - a test order
    random.Random(seed).shuffle(order)  # noqa: S311 - a test order

    results = [store.accept(chunk(manifest, index), piece(data, manifest, index)) for index in order]

    assert results[-1]
    assert data == store.path(manifest.sha256).read_bytes()
    assert () == store.missing(manifest)


def test_a_transfer_goes_on_after_a_restart(store, tmp_path):
    data = bytes(range(256)) * 12
    manifest = manifest_of(data)
    store.accept(chunk(manifest, 1), piece(data, manifest, 1))

    reopened = PayloadStore(tmp_path / "payloads")

    assert (0, 2) == reopened.missing(manifest)
    assert not reopened.accept(chunk(manifest, 0), piece(data, manifest, 0))
    assert reopened.accept(chunk(manifest, 2), piece(data, manifest, 2))


def test_damaged_chunks_are_caught_and_everything_is_asked_for_again(store):
    data = b"x" * (2 * CHUNK)
    manifest = manifest_of(data)
    store.accept(chunk(manifest, 0), b"y" * CHUNK)

    with pytest.raises(DigestMismatchError):
        store.accept(chunk(manifest, 1), b"x" * CHUNK)

    assert (0, 1) == store.missing(manifest)


@pytest.mark.parametrize(("index", "size"), [(0, CHUNK - 1), (0, CHUNK + 1), (2, CHUNK), (1, 0), (10**9, 0)])
def test_a_chunk_that_does_not_fit_its_manifest_is_refused(store, index, size):
    manifest = manifest_of(b"x" * (2 * CHUNK))

    with pytest.raises(MalformedMessageError, match=f"chunk {index} of 2"):
        store.accept(chunk(manifest, index), b"x" * size)


def test_two_manifests_for_one_digest_are_refused(store):
    manifest = manifest_of(b"x" * (3 * CHUNK))
    store.accept(chunk(manifest, 0), b"x" * CHUNK)
    other = manifest.model_copy(update={"size_bytes": 5 * CHUNK})

    with pytest.raises(MalformedMessageError, match="differs"):
        store.accept(chunk(other, 0), b"x" * CHUNK)


def test_abandoned_transfers_are_swept(store):
    manifest = manifest_of(b"x" * (2 * CHUNK))
    store.accept(chunk(manifest, 0), b"x" * CHUNK)

    assert [] == store.sweep(older_than_s=3600)
    assert [manifest.sha256] == store.sweep(older_than_s=-1)
    assert (0, 1) == store.missing(manifest)
