import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import ValidationError

from common.errors import RosterError, UnknownPartyError
from common.security.roster import DOCUMENT_CHARS, Roster, sign_roster, verify_roster
from tests.support.certificates import make_authority
from tests.support.parties import make_identities, make_roster


@pytest.fixture(scope="module")
def authority():
    return make_authority()


@pytest.fixture(scope="module")
def identities():
    return make_identities()


@pytest.fixture(scope="module")
def roster(identities):
    return make_roster(identities, serial=7, revoked=("east",))


def check(signed, authority, previous=None):
    return verify_roster(signed.document, signed.signature, authority.certificate, previous=previous)


def test_a_member_is_found_by_its_id(roster, identities):
    assert identities["north"].public.signing == roster.member("north").signing_key


@pytest.mark.parametrize("party", ["east", "nobody", ""])
def test_a_revoked_or_unlisted_party_is_unknown(roster, party):
    with pytest.raises(UnknownPartyError, match="is not in the federation trial"):
        roster.member(party)


def test_active_parties_can_be_asked_by_role(roster):
    assert ("lab", "north", "south") == tuple(member.party for member in roster.active())
    assert ("north", "south") == tuple(member.party for member in roster.active("node"))
    assert () == roster.active("registrar")
    assert (("lab", "researcher"), ("north", "node"), ("south", "node")) == roster.parties()


def test_a_party_cannot_be_listed_twice(roster):
    with pytest.raises(ValidationError, match="listed twice"):
        Roster(federation="trial", serial=1, issued_at=0, members=(roster.members[0], roster.members[0]))


@pytest.mark.parametrize("field", ["signing_key", "sealing_key", "certificate_sha256"])
@pytest.mark.parametrize("value", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"])
def test_keys_and_fingerprints_are_64_lower_case_hexadecimals(roster, field, value):
    member = roster.members[0].model_dump() | {field: value}
    with pytest.raises(ValidationError):
        type(roster.members[0]).model_validate(member)


def test_a_signed_roster_is_believed(roster, authority):
    assert roster == check(sign_roster(roster, authority.key), authority)


def test_the_document_is_canonical_json(roster, authority):
    document = sign_roster(roster, authority.key).document
    assert document == json.dumps(json.loads(document), sort_keys=True, separators=(",", ":"))


def test_a_changed_document_is_refused(roster, authority):
    signed = sign_roster(roster, authority.key)
    changed = signed.model_copy(update={"document": signed.document.replace("1700000001.0", "null")})
    assert changed.document != signed.document
    with pytest.raises(RosterError, match="not signed by the federation's authority"):
        check(changed, authority)


def test_another_authority_is_refused_even_with_the_same_name(roster, authority):
    with pytest.raises(RosterError, match="not signed"):
        check(sign_roster(roster, make_authority().key), authority)


@pytest.mark.parametrize("signature", ["", "AAAA", "not base64!", "\u00fc", "\ud800", "====", "A" * 100_000])
def test_a_signature_that_is_none_is_refused(roster, authority, signature):
    document = sign_roster(roster, authority.key).document
    with pytest.raises(RosterError, match="not signed"):
        verify_roster(document, signature, authority.certificate, previous=None)


def test_a_signature_over_the_bare_document_is_refused(roster, authority):
    """The same key signs certificates: what it signs as a roster carries a label."""
    document = sign_roster(roster, authority.key).document
    bare = authority.key.sign(document.encode(), ec.ECDSA(SHA256()))
    with pytest.raises(RosterError, match="not signed"):
        verify_roster(document, base64.b64encode(bare).decode(), authority.certificate, previous=None)


def test_a_newer_roster_succeeds(roster, authority):
    newer = roster.model_copy(update={"serial": 8})
    assert newer == check(sign_roster(newer, authority.key), authority, previous=roster)


def test_the_same_roster_again_is_harmless(roster, authority):
    assert roster == check(sign_roster(roster, authority.key), authority, previous=roster)


def test_an_older_roster_is_refused(roster, authority):
    older = roster.model_copy(update={"serial": 6})
    with pytest.raises(RosterError, match="serial 6 is older than 7"):
        check(sign_roster(older, authority.key), authority, previous=roster)


def test_another_roster_under_the_same_serial_is_refused(identities, roster, authority):
    other = make_roster(identities, serial=7)
    with pytest.raises(RosterError, match="differs from the one in use under the same serial 7"):
        check(sign_roster(other, authority.key), authority, previous=roster)


def test_a_roster_of_another_federation_is_refused(identities, roster, authority):
    other = make_roster(identities, federation="other", serial=9)
    with pytest.raises(RosterError, match="of the federation 'other', not 'trial'"):
        check(sign_roster(other, authority.key), authority, previous=roster)


def test_a_document_that_is_no_roster_is_refused_even_when_signed(authority, roster):
    unknown = roster.model_copy(update={"serial": 0})
    with pytest.raises(RosterError, match="serial"):
        check(sign_roster(unknown, authority.key), authority)


def test_a_roster_that_no_message_can_carry_is_not_signed(roster, authority):
    crowd = tuple(roster.members[0].model_copy(update={"party": f"party-{number}"}) for number in range(1000))
    with pytest.raises(RosterError, match=f"more than {DOCUMENT_CHARS}"):
        sign_roster(roster.model_copy(update={"members": crowd}), authority.key)


def test_a_roster_of_500_parties_can_be_signed(roster, authority):
    crowd = tuple(roster.members[0].model_copy(update={"party": f"party-{number}"}) for number in range(500))
    large = roster.model_copy(update={"members": crowd})
    assert large == check(sign_roster(large, authority.key), authority)


def test_an_oversized_document_is_refused_before_anything_else(authority):
    with pytest.raises(RosterError, match=f"more than {DOCUMENT_CHARS}"):
        verify_roster("[" * (DOCUMENT_CHARS + 1), "", authority.certificate, previous=None)
