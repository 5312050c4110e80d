"""What a round sends in another form is whole, small, and gone when the round is."""

import hashlib
from pathlib import Path

import pytest
import torch

from common.errors import InvalidTensorsError, MissingExtraError, PayloadMissingError
from common.limits import INLINE_BYTES
from common.messages import PayloadManifest
from common.payload.encodings import compression
from common.payload.encodings.choice import Encoding
from common.payload.encodings.compression import compress_file, decompress_file
from common.payload.encodings.decoder import decode_file
from common.payload.tensors import load_tensors, save_tensors
from researcher.parcels import Parcels
from tests.support.holdings import Files


class Trial:
    def __init__(self, folder: Path):
        self.folder = folder
        self.store = Files(folder / "payloads")
        self.parcels = Parcels(self.store, folder / "parcels")
        self.weights = {"w": torch.randn(300, 300, generator=torch.Generator().manual_seed(1))}
        save_tensors(folder / "draft", self.weights)
        self.model = self.store.add(folder / "draft")

    def pack(self, encoding):
        return self.parcels.pack(self.model, Encoding.parse(encoding))

    def update(self, **changes):
        """Add a compressed update to the store and return its manifest."""
        save_tensors(self.folder / "plain", self.weights)
        size = (self.folder / "plain").stat().st_size
        compress_file(self.folder / "plain", self.folder / "packed")
        digest = self.store.add(self.folder / "packed")
        facts = {"size_bytes": size, "encoding": "raw+zstd", "decoded_bytes": size, "inline": False}
        return PayloadManifest(sha256=digest, **(facts | changes))


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path)


@pytest.mark.parametrize("encoding", ["raw", "int8", "topk:0.1"])
def test_a_model_that_cannot_be_encoded_goes_out_as_it_is_kept(trial, encoding):
    manifest = trial.pack(encoding)

    assert (trial.model, "raw", None) == (manifest.sha256, manifest.encoding, manifest.decoded_bytes)
    assert trial.store.path(trial.model) == trial.parcels.packed(manifest)
    assert not (trial.folder / "parcels").exists()


@pytest.mark.parametrize(
    ("encoding", "sent"), [("bf16", "bf16"), ("fp16+zstd", "fp16+zstd"), ("int8+zstd", "raw+zstd")]
)
def test_a_model_is_described_as_it_is_sent_and_reads_as_it_was(trial, encoding, sent):
    manifest = trial.pack(encoding)
    path = trial.parcels.packed(manifest)

    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest.sha256
    assert (len(content), sent) == (manifest.size_bytes, manifest.encoding)
    assert (len(content) <= INLINE_BYTES) == manifest.inline
    assert [manifest.sha256] == [one.name for one in (trial.folder / "parcels").iterdir()]
    if manifest.decoded_bytes:
        decompress_file(path, trial.folder / "unpacked", size_bytes=manifest.decoded_bytes)
        path = trial.folder / "unpacked"
    decode_file(path, trial.folder / "read")
    torch.testing.assert_close(trial.weights, load_tensors(trial.folder / "read"), rtol=2**-8, atol=0)


def test_a_packed_model_is_there_for_the_next_process_until_the_next_model_is_packed(trial):
    first = trial.pack("bf16")
    again = Parcels(trial.store, trial.folder / "parcels")

    assert again.packed(first).exists()
    assert first == again.pack(trial.model, Encoding.parse("bf16"))
    again.pack(trial.model, Encoding())
    with pytest.raises(PayloadMissingError):
        again.packed(first)


def test_an_update_is_decompressed_once_and_gone_with_the_round(trial, monkeypatch):
    manifest = trial.update()

    path = trial.parcels.unpacked(manifest)
    monkeypatch.setattr("researcher.parcels.decompress_file", None)

    assert path == trial.parcels.unpacked(manifest)
    torch.testing.assert_close(trial.weights, load_tensors(path), rtol=0, atol=0)
    trial.parcels.clear()
    assert not path.exists()
    assert trial.store.has(manifest.sha256)


def test_what_another_process_left_behind_is_not_believed(trial):
    manifest = trial.update()
    trial.parcels.unpacked(manifest).write_bytes(b"torn by a power cut")

    path = Parcels(trial.store, trial.folder / "parcels").unpacked(manifest)

    torch.testing.assert_close(trial.weights, load_tensors(path), rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_an_update_that_is_not_as_large_as_announced_is_refused(trial, wrong):
    manifest = trial.update()
    lying = manifest.model_copy(update={"decoded_bytes": manifest.decoded_bytes + wrong})

    with pytest.raises(InvalidTensorsError, match="than the announced"):
        trial.parcels.unpacked(lying)


def test_without_the_package_it_says_what_to_install(trial, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", missing)

    with pytest.raises(MissingExtraError, match="zstandard"):
        trial.pack("bf16+zstd")
