"""Sealed messages, rosters and kits, whatever the bytes: what was sealed, or a typed error."""

import base64
import shutil
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import RosterError, UnauthenticMessageError, WarrenError
from common.ids import PartyId
from common.security.identity import SEALING, SIGNING
from common.security.kit import AUTHORITY, CERTIFICATE, CONNECTION, KEY, ROSTER, Kit
from common.security.roster import Roster, sign_roster, verify_roster
from common.transport.topology import Lane
from tests.support.certificates import make_authority
from tests.support.parties import make_identities, make_kit, make_roster, make_sealers

LAB, NORTH = PartyId("lab"), PartyId("north")
SEALERS = make_sealers()
AUTHORITY_OF_TRIAL = make_authority()
ROSTER_OF_TRIAL = make_roster(make_identities())
SIGNED = sign_roster(ROSTER_OF_TRIAL, AUTHORITY_OF_TRIAL.key)
NODES = [PartyId(name) for name in ("north", "south", "east")]

lanes = st.sampled_from(list(Lane))
FRAMES = st.one_of(
    st.binary(max_size=400),
    st.builds(b"WRS1".__add__, st.binary(max_size=400)),
    st.builds(
        lambda head, count, names, rest: (
            b"WRS1"
            + head
            + count.to_bytes(2, "big")
            + b"".join(bytes([len(name)]) + name + bytes(48) for name in names)
            + rest
        ),
        st.binary(min_size=108, max_size=108),
        st.integers(0, 5),
        st.lists(st.sampled_from([b"north", b"south", b"", b"\xff" * 255]), max_size=5),
        st.binary(max_size=80),
    ),
)


@st.composite
def mutated(draw, original):
    """Return bytes near `original`, never the same."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "insert", "delete", "cut", "repeat"])):
            case "flip" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
            case "delete":
                del data[at : at + draw(st.integers(1, 20))]
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 100))]
    return bytes(data)


@given(lanes, st.sets(st.sampled_from(NODES), min_size=1), st.binary(max_size=5000))
def test_recipients_and_nobody_else_read_any_body(lane, recipients, body):
    sealed = SEALERS["lab"].seal(lane, sorted(recipients), body)
    for node in NODES:
        if node in recipients:
            assert body == SEALERS[node].open(lane, LAB, sealed)
        else:
            with pytest.raises(UnauthenticMessageError):
                SEALERS[node].open(lane, LAB, sealed)


@given(lanes, lanes, st.sampled_from(NODES), st.sampled_from(NODES), st.binary(max_size=100))
def test_a_message_opens_only_on_its_lane_and_from_its_sender(lane, other_lane, sender, other_sender, body):
    sealed = SEALERS[sender].seal(lane, (LAB,), body)
    if (lane, sender) == (other_lane, other_sender):
        assert body == SEALERS["lab"].open(other_lane, other_sender, sealed)
    else:
        with pytest.raises(UnauthenticMessageError):
            SEALERS["lab"].open(other_lane, other_sender, sealed)


@given(FRAMES, lanes, st.sampled_from([*SEALERS, "nobody"]))
@settings(max_examples=500)
def test_arbitrary_bytes_are_refused_with_a_typed_error(frame, lane, sender):
    with pytest.raises(UnauthenticMessageError):
        SEALERS["north"].open(lane, PartyId(sender), frame)


SEALED = SEALERS["lab"].seal(Lane.CONTROL, NODES, b"body of a message")


@given(mutated(SEALED))
@settings(max_examples=500)
def test_a_mutated_message_is_refused_with_a_typed_error(data):
    if data != SEALED:
        with pytest.raises(UnauthenticMessageError):
            SEALERS["north"].open(Lane.CONTROL, LAB, data)


@given(
    st.one_of(
        st.text(max_size=300), mutated(SIGNED.document.encode()).map(lambda data: data.decode("latin-1"))
    )
)
def test_a_mutated_roster_is_refused_with_a_typed_error(document):
    if document != SIGNED.document:
        with pytest.raises(RosterError):
            verify_roster(document, SIGNED.signature, AUTHORITY_OF_TRIAL.certificate, previous=None)


@given(
    st.one_of(
        st.text(max_size=300), mutated(SIGNED.signature.encode()).map(lambda data: data.decode("latin-1"))
    )
)
def test_a_mutated_signature_of_a_roster_is_refused_or_means_the_same(signature):
    try:
        roster = verify_roster(SIGNED.document, signature, AUTHORITY_OF_TRIAL.certificate, previous=None)
    except RosterError:
        return
    assert ROSTER_OF_TRIAL == roster


@given(st.text(max_size=300) | mutated(SIGNED.document.encode()).map(lambda data: data.decode("latin-1")))
def test_a_document_that_is_no_roster_is_refused_even_if_the_authority_signed_it(document):
    data = b"warren roster 1\x00" + document.encode()
    signature = base64.b64encode(AUTHORITY_OF_TRIAL.key.sign(data, ec.ECDSA(SHA256()))).decode()
    try:
        expected = Roster.model_validate_json(document)
    except ValidationError:
        with pytest.raises(RosterError, match=r"refused: (?!it is not signed)"):
            verify_roster(document, signature, AUTHORITY_OF_TRIAL.certificate, previous=None)
    else:
        assert expected == verify_roster(document, signature, AUTHORITY_OF_TRIAL.certificate, previous=None)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kit(tmp_path_factory.mktemp("kits") / "kit", AUTHORITY_OF_TRIAL)


@pytest.mark.parametrize("name", [CONNECTION, AUTHORITY, CERTIFICATE, KEY, SIGNING, SEALING, ROSTER])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_kit_file_loads_or_is_refused_with_a_typed_error(kit, tmp_path, name, data):
    folder = tmp_path / "kit"
    shutil.copytree(kit, folder, dirs_exist_ok=True)
    original = (kit / name).read_bytes()
    (folder / name).write_bytes(data.draw(st.one_of(st.binary(max_size=200), mutated(original))))
    try:
        Kit.load(folder, now=time.time()).ssl_context()
    except WarrenError:
        return
