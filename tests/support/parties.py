"""Make small federations for tests: identities, the roster that lists them, and kits."""

from __future__ import annotations

from pathlib import Path

from common.ids import Digest, PartyId
from common.security.identity import Identity
from common.security.kit import fingerprint, write_kit
from common.security.roster import Member, Roster, sign_roster
from common.security.sealing import Sealer
from common.settings import Connection, Role
from tests.support.certificates import Issued

ROLES: dict[str, Role] = {"lab": "researcher", "north": "node", "south": "node", "east": "node"}


def make_identities(parties: dict[str, Role] = ROLES) -> dict[str, Identity]:
    return {party: Identity.generate(PartyId(party)) for party in parties}


def make_roster(
    identities: dict[str, Identity],
    roles: dict[str, Role] = ROLES,
    *,
    federation: str = "trial",
    serial: int = 1,
    revoked: tuple[str, ...] = (),
    fingerprints: dict[str, Digest] | None = None,
) -> Roster:
    members = tuple(
        Member(
            party=PartyId(party),
            role=roles[party],
            certificate_sha256=(fingerprints or {}).get(party, Digest("0" * 64)),
            signing_key=identity.public.signing,
            sealing_key=identity.public.sealing,
            added_at=1_700_000_000.0,
            revoked_at=1_700_000_001.0 if party in revoked else None,
        )
        for party, identity in identities.items()
    )
    return Roster(federation=federation, serial=serial, issued_at=1_700_000_000.0, members=members)


def make_sealers(parties: dict[str, Role] = ROLES) -> dict[str, Sealer]:
    """Return one sealer for each party of a new federation."""
    identities = make_identities(parties)
    roster = make_roster(identities, parties)
    return {party: Sealer(identity, roster) for party, identity in identities.items()}


def make_kit(folder: Path, authority: Issued, *, party: str = "north", days: float = 365) -> Path:
    """Write the kit of one party of a new federation, all of whose parties are in the roster."""
    identities, certificate = make_identities(), authority.issue(party, days=days)
    roster = make_roster(identities, fingerprints={party: fingerprint(certificate.certificate)})
    connection = Connection(
        federation="trial",
        party=PartyId(party),
        role=ROLES[party],
        host="127.0.0.1",
        port=5671,
        server_name="localhost",
        vhost="trial",
    )
    write_kit(
        folder,
        connection,
        authority.cert_pem,
        certificate.cert_pem,
        certificate.key_pem,
        identities[party],
        sign_roster(roster, authority.key),
    )
    return folder
