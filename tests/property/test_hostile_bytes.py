"""Whatever bytes a stranger puts where Warren reads: what they should be, or a typed error, in little memory.

Sealed messages, rosters and kits are in `test_sealing.py`, tensors in `tests/security`, messages in `tests/unit/test_messages.py`.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import MalformedMessageError, WarrenError
from common.ids import Digest, PartyId
from common.limits import HEADER_BYTES, PAYLOAD_BYTES
from common.messages import Chunk, PayloadManifest, decode
from common.payload.store import PayloadStore
from common.security.enrolment import PUBLIC, begin, complete, read_request
from common.security.sealing import addressees
from common.settings import load_toml
from deploy.federation import Federation, FederationSettings
from node.policy import Policy
from node.worker.wire import read_report
from researcher.experiment_file import ExperimentFile
from tests.property.test_sealing import FRAMES, SEALED, mutated

MIB = 1024 * 1024
ONCE = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
EXPERIMENT = b"""name = "heart"\nrounds = 3\ntags = ["heart"]\n[plan]\nfile = "plan.py"\nclass = "Plan"\n[training]\nepochs = 1\n"""
BOMBS = [
    b"[" * 200_000,
    b"a" * 200_000,
    b"{" * 200_000,
    b"=" * 200_000,
    b"\x00" * 200_000,
    b'"' + b"\\" * 99_999,
]


@contextlib.contextmanager
def little_memory(most=64 * MIB):
    """Fail if the block needs more memory than this beyond what there was."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


TOML = {
    "policy.toml": (Policy, Policy.template().replace("\n# ", "\n").encode()),
    "federation.toml": (
        FederationSettings,
        b'name = "t"\nvhost = "t"\nhost = "h"\nport = 1\nserver_names = ["h"]\n',
    ),
    "experiment.toml": (ExperimentFile, EXPERIMENT),
}


@pytest.mark.parametrize("name", TOML)
@given(data=st.data())
@ONCE
def test_settings_are_read_or_refused_with_a_typed_error(tmp_path, name, data):
    model, whole = TOML[name]
    (tmp_path / name).write_bytes(data.draw(st.one_of(st.binary(max_size=300), mutated(whole))))

    with contextlib.suppress(WarrenError):
        load_toml(tmp_path / name, model)


@pytest.mark.parametrize("name", TOML)
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_settings_that_are_a_bomb_are_refused_in_little_memory(tmp_path, name, bomb):
    (tmp_path / name).write_bytes(bomb)

    with little_memory(), pytest.raises(WarrenError):
        load_toml(tmp_path / name, TOML[name][0])


@pytest.fixture(scope="module")
def enrolment(tmp_path_factory):
    """The keys of a party that asked, and the reply that it got."""
    folder = tmp_path_factory.mktemp("enrolment")
    federation = Federation.create(folder / "federation", "trial", port=5671)
    begin(folder / "keys", PartyId("north"), "node", "trial", now=time.time())
    request, key = read_request(folder / "keys" / "request.json")
    return folder / "keys", federation.sign(request, key)


@given(data=st.data())
@ONCE
def test_a_mutated_enrolment_request_is_refused_with_a_typed_error_or_the_same(enrolment, tmp_path, data):
    keys, _ = enrolment
    original = (keys / "request.json").read_bytes()
    path = tmp_path / "request.json"
    path.write_bytes(data.draw(st.one_of(st.binary(max_size=300), mutated(original))))

    with contextlib.suppress(WarrenError):
        assert read_request(keys / "request.json")[0] == read_request(path)[0]


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_an_enrolment_request_that_is_a_bomb_is_refused_in_little_memory(tmp_path, bomb):
    (tmp_path / "request.json").write_bytes(bomb)

    with little_memory(), pytest.raises(WarrenError):
        read_request(tmp_path / "request.json")


@pytest.mark.parametrize("name", PUBLIC)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_reply_makes_a_kit_or_is_refused_and_leaves_nothing(enrolment, tmp_path, name, data):
    keys, answer = enrolment
    reply, kit = tmp_path / "reply", tmp_path / "kit"
    shutil.copytree(answer, reply, dirs_exist_ok=True)
    original = (answer / name).read_bytes()
    (reply / name).write_bytes(data.draw(st.one_of(st.binary(max_size=200), mutated(original))))

    try:
        complete(keys, reply, kit, now=time.time())
    except WarrenError:
        assert not kit.exists()
    else:
        shutil.rmtree(kit)


manifests = st.builds(
    PayloadManifest,
    sha256=st.sampled_from(["a" * 64, "b" * 64]).map(Digest),
    size_bytes=st.one_of(st.integers(8, 5000), st.just(PAYLOAD_BYTES)),
    chunk_bytes=st.integers(1024, MIB),
    inline=st.just(False),
)
PIECES = st.lists(
    st.tuples(manifests, st.one_of(st.integers(0, 3), st.integers(0, 2**53 - 1)), st.binary(max_size=2000)),
    max_size=6,
)


@given(pieces=PIECES)
@ONCE
def test_any_chunks_are_kept_at_their_place_or_refused_with_a_typed_error(tmp_path, pieces):
    store = PayloadStore(tmp_path / "payloads")
    for manifest, index, data in pieces:
        chunk = Chunk(sender=PartyId("north"), recipients=(PartyId("lab"),), manifest=manifest, index=index)
        with contextlib.suppress(WarrenError):
            store.accept(chunk, data)
    used = sum(path.stat().st_blocks * 512 for path in (tmp_path / "payloads").rglob("*") if path.is_file())
    assert used < 160 * MIB  # a map of the largest payload in the smallest chunks, and what was sent
    shutil.rmtree(tmp_path / "payloads")


@given(st.one_of(st.binary(max_size=300), FRAMES, mutated(SEALED)))
def test_the_envelope_of_any_bytes_is_read_or_refused(data):
    with contextlib.suppress(ValueError):
        assert all(isinstance(name, str) for name in addressees(data))


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(lambda data: len(data).to_bytes(4) + bytes(8) + data),
    )
)
@ONCE
def test_whatever_a_worker_says_is_a_report_or_a_typed_error(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with contextlib.suppress(MalformedMessageError):
            read_report(ours)


@pytest.mark.parametrize("depth", [1000, HEADER_BYTES - 1])
@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
def test_a_deeply_nested_message_is_refused_at_once_in_little_memory(opening, depth):
    header = (opening * depth)[:HEADER_BYTES]
    body = b"WRN1" + len(header).to_bytes(4) + header
    done = threading.Event()

    def read():
        with pytest.raises(MalformedMessageError):
            decode(body)
        done.set()

    with little_memory():
        reader = threading.Thread(target=read)  # with the small stack of a thread, as in an agent
        reader.start()
        reader.join(10)
    assert done.is_set()
