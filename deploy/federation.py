"""Keep a federation in a folder: its settings, its authority, its roster, and the kits made for its parties.

federation.toml   name, virtual host, where the broker is, how large its queues may grow
roster.json       who is in it, signed; this file alone decides
ca/               certificate and key of the authority
broker/           certificate and key of the broker; the data of a private one
kits/<party>/     what each party gets
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, StringConstraints, ValidationError

from common.clock import Clock, SystemClock
from common.errors import (
    EnrolmentError,
    FederationExistsError,
    KitError,
    NotAFederationError,
    PartyExistsError,
    RosterError,
    UnknownPartyError,
)
from common.ids import REGISTRAR, SLUG, PartyId, party_id
from common.security.enrolment import SignedRequest
from common.security.files import write_atomic, write_private
from common.security.identity import SEALING, SIGNING, Identity
from common.security.kit import CERTIFICATE, KEY, fingerprint, write_kit, write_public, write_roster
from common.security.roster import Member, Roster, SignedRoster, sign_roster, verify_roster
from common.settings import Connection, Role, Settings, load_toml, validate
from deploy.authority import PARTY_DAYS, Authority
from deploy.ports import free_port

SETTINGS: Final = "federation.toml"
ROSTER: Final = "roster.json"

_SYSTEM: Final = SystemClock()


class QueueLimits(Settings):
    """How large one queue may grow on the broker before its sender is refused, or its oldest message dropped."""

    control_bytes: Annotated[int, Field(ge=2**20)] = 64 * 2**20
    """Some 200 messages with the largest inline payload, or 100,000 short ones: a node may be away for weeks."""
    bulk_bytes: Annotated[int, Field(ge=2**21)] = 4 * 2**30
    """One and a half models of 2.7 GB. A broadcast is stored once, whatever the number of queues."""
    telemetry_messages: Annotated[int, Field(ge=1)] = 1000
    """Losses of a busy minute; the oldest are dropped first."""


class FederationSettings(Settings):
    """`federation.toml`."""

    name: Annotated[str, StringConstraints(pattern=SLUG)]
    vhost: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    host: Annotated[str, StringConstraints(min_length=1)]
    """Where the parties dial."""
    port: Annotated[int, Field(ge=1, le=65535)]
    server_names: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names and IP addresses in the broker's certificate; parties insist on the first."""
    limits: QueueLimits = QueueLimits()


class Federation:
    """A federation in a folder.

    Every change is one atomic replacement of the signed roster; what a crash leaves around it (a kit of a party that was
    never added, a kit with the roster before) is overwritten by the next change. A lock file keeps two processes from
    changing it at once. Objects are not thread-safe.
    """

    def __init__(
        self, path: Path, settings: FederationSettings, authority: Authority, *, clock: Clock = _SYSTEM
    ) -> None:
        self.path = path
        self.settings = settings
        self.authority = authority
        self._clock = clock
        self._signed, self._roster = self._read_roster()

    @classmethod
    def create(
        cls,
        path: Path,
        name: str,
        *,
        host: str = "localhost",
        port: int = 0,
        server_names: Sequence[str] = (),
        vhost: str | None = None,
        limits: QueueLimits | None = None,
        authority: Authority | None = None,
        clock: Clock = _SYSTEM,
    ) -> Federation:
        """Make a federation with nobody in it but its registrar.

        Args:
            path: A folder that does not exist or is empty.
            name: A slug.
            host: Where the parties will dial.
            port: The broker's TLS port; 0 picks one that is free on this machine.
            server_names: Further names or IP addresses under which the broker is reached, beside `host`.
            vhost: Virtual host on the broker; the federation's name by default.
            limits: How large queues may grow.
            authority: One to share with another federation on the same broker; a new one by default.
            clock: Says what time certificates begin.

        Raises:
            FederationExistsError: If the folder holds something.
            InvalidSettingsError: If a value is not valid; nothing is written then.
        """
        names = tuple(dict.fromkeys((host, *server_names, *(("127.0.0.1",) if host == "localhost" else ()))))
        document = {"name": name, "vhost": vhost or name, "host": host, "port": port or free_port()}
        document |= {"server_names": names, "limits": limits or QueueLimits()}
        settings = validate(document, FederationSettings, source="the federation")
        _make_folder(path)
        authority = authority or Authority.create(name, now=clock.now())
        authority.save(path / "ca")
        issued = authority.issue_broker(name, names, now=clock.now())
        (path / "broker").mkdir(mode=0o700)
        write_private(path / "broker" / "server.key", issued.key_pem)
        write_atomic(path / "broker" / "server.pem", issued.cert_pem)
        (path / "kits").mkdir(mode=0o700)
        # The settings come last: a folder without them is no federation, and `create` may be told to start over.
        empty = Roster(federation=name, serial=1, issued_at=clock.now(), members=())
        write_atomic(path / ROSTER, sign_roster(empty, authority.key).model_dump_json().encode())
        write_atomic(path / SETTINGS, _toml(settings).encode())
        federation = cls(path, settings, authority, clock=clock)
        federation.add(REGISTRAR, "registrar")
        return federation

    @classmethod
    def load(cls, path: Path, *, clock: Clock = _SYSTEM) -> Federation:
        """Open a federation that `create` made.

        Raises:
            NotAFederationError: If there is none, or a file of it is missing or damaged.
            InvalidSettingsError: If `federation.toml` was edited into something invalid.
            RosterError: If the roster is not the authority's.
        """
        if not (path / SETTINGS).is_file():
            raise NotAFederationError(path=str(path), reason=f"{SETTINGS} is missing")
        settings = load_toml(path / SETTINGS, FederationSettings)
        return cls(path, settings, Authority.load(path / "ca"), clock=clock)

    @property
    def name(self) -> str:
        """Return the name of the federation."""
        return self.settings.name

    @property
    def roster(self) -> Roster:
        """Return who is in it, revoked parties included."""
        return self._roster

    @property
    def signed_roster(self) -> SignedRoster:
        """Return the roster as it is given to parties."""
        return self._signed

    def members(self) -> tuple[Member, ...]:
        """Return the parties that are not revoked."""
        return self._roster.active()

    def kit(self, party: PartyId) -> Path:
        """Return the folder of a party's kit, whether or not it is still there."""
        return self.path / "kits" / party

    def fingerprint(self) -> str:
        """Return the SHA-256 of the authority's certificate, for two people to compare."""
        return self.authority.certificate.fingerprint(SHA256()).hex(":").upper()

    def add(self, party: str, role: Role, *, days: float = PARTY_DAYS) -> Path:
        """Add a party and return the folder of its kit, which is to be handed to it.

        Args:
            party: Its id.
            role: What it may do.
            days: How long its certificate lasts.

        Raises:
            InvalidPartyIdError: If the id is no slug.
            PartyExistsError: If the id is, or ever was, in use.
        """
        name = party_id(party)
        with self._changing():
            if any(member.party == name for member in self._roster.members):
                raise PartyExistsError(party=name, federation=self.name)
            now = self._clock.now()
            issued, identity = self.authority.issue_party(name, now=now, days=days), Identity.generate(name)
            member = Member(
                party=name,
                role=role,
                certificate_sha256=fingerprint(issued.certificate),
                signing_key=identity.public.signing,
                sealing_key=identity.public.sealing,
                added_at=now,
            )
            signed = self._sign((*self._roster.members, member))
            kit = self.kit(name)
            if kit.exists():
                shutil.rmtree(kit)  # left by an addition that was cut short: its keys are in no roster
            write_kit(
                kit,
                self._connection(name, role),
                self.authority.cert_pem,
                issued.cert_pem,
                issued.key_pem,
                identity,
                signed,
            )
            self._commit(signed)
        return kit

    def sign(
        self, request: SignedRequest, key: ec.EllipticCurvePublicKey, *, days: float = PARTY_DAYS
    ) -> Path:
        """Take in a party that made its own keys, or give a member that made new ones these; return the folder of the reply.

        Nothing in the reply is secret. From then on the keys of the request are the only ones that the party is believed by.

        Args:
            request: What it asks, whose fingerprint two people have compared.
            key: Its key for TLS; see `read_request`.
            days: How long its certificate lasts.

        Raises:
            EnrolmentError: If it asks for another federation, or for the id of a member with another role.
            PartyExistsError: If its id was revoked.
        """
        with self._changing():
            if request.federation != self.name:
                raise EnrolmentError(
                    path=request.party, reason=f"it asks for the federation {request.federation}"
                )
            known = next((one for one in self._roster.members if one.party == request.party), None)
            if known is not None and known.revoked_at is not None:
                raise PartyExistsError(party=request.party, federation=self.name)
            if known is not None and known.role != request.role:
                raise EnrolmentError(path=request.party, reason=f"{request.party} is a {known.role}")
            now = self._clock.now()
            certificate = self.authority.certify(request.party, key, now=now, days=days)
            member = Member(
                party=request.party,
                role=request.role,
                certificate_sha256=fingerprint(certificate),
                signing_key=request.keys.signing,
                sealing_key=request.keys.sealing,
                added_at=known.added_at if known else now,
                keys_made_by="party",
            )
            return self._answer(member, certificate.public_bytes(Encoding.PEM))

    def renew(self, party: str, *, days: float = PARTY_DAYS) -> Path:
        """Give a member a new certificate for the keys that it has; return the folder of the reply, or of its kit.

        The certificate before it is good until it expires, so nothing has to happen at the same time.

        Raises:
            UnknownPartyError: If it is no member.
            KitError: If its last certificate is not in this folder any more.
        """
        with self._changing():
            member = self._roster.member(PartyId(party))
            last = self.kit(member.party) / CERTIFICATE
            try:
                key = x509.load_pem_x509_certificate(last.read_bytes()).public_key()
            except (OSError, ValueError) as error:
                raise KitError(path=last.parent, reason=f"{CERTIFICATE} cannot be read") from error
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise KitError(path=last.parent, reason=f"{CERTIFICATE} has no key on an elliptic curve")
            certificate = self.authority.certify(member.party, key, now=self._clock.now(), days=days)
            renewed = member.model_copy(
                update={
                    "certificate_sha256": fingerprint(certificate),
                    "previous_certificate_sha256": member.certificate_sha256,
                }
            )
            return self._answer(renewed, certificate.public_bytes(Encoding.PEM))

    def _answer(self, member: Member, cert_pem: bytes) -> Path:
        """Put a member, new or changed, into the roster, and what is public of its kit into its folder."""
        members = {one.party: one for one in self._roster.members} | {member.party: member}
        signed = self._sign(tuple(members.values()))
        folder = self.kit(member.party)
        folder.mkdir(mode=0o700, exist_ok=True)
        if member.keys_made_by == "party":
            for name in (KEY, SIGNING, SEALING):  # of an earlier kit
                (folder / name).unlink(missing_ok=True)
        write_public(
            folder, self._connection(member.party, member.role), self.authority.cert_pem, cert_pem, signed
        )
        self._commit(signed)
        return folder

    def revoke(self, party: str) -> None:
        """Take a party out for good. Its id stays taken, and its kit is left where it is, of no use.

        Raises:
            UnknownPartyError: If it is not in the federation, was revoked before, or is the registrar.
        """
        with self._changing():
            if party == REGISTRAR:
                raise UnknownPartyError(party=party, federation=self.name)
            revoked = self._roster.member(PartyId(party)).model_copy(update={"revoked_at": self._clock.now()})
            self._commit(
                self._sign(tuple(revoked if one.party == party else one for one in self._roster.members))
            )

    def refresh_kits(self) -> None:
        """Put the current roster into every kit of a member that is still in this folder."""
        for member in self.members():
            kit = self.kit(member.party)
            if kit.is_dir():
                write_roster(kit, self._signed)

    def _connection(self, party: PartyId, role: Role) -> Connection:
        return Connection(
            federation=self.name,
            party=party,
            role=role,
            host=self.settings.host,
            port=self.settings.port,
            server_name=self.settings.server_names[0],
            vhost=self.settings.vhost,
        )

    def _sign(self, members: tuple[Member, ...]) -> SignedRoster:
        roster = Roster(
            federation=self.name,
            serial=self._roster.serial + 1,
            issued_at=self._clock.now(),
            members=members,
        )
        return sign_roster(roster, self.authority.key)

    def _commit(self, signed: SignedRoster) -> None:
        write_atomic(self.path / ROSTER, signed.model_dump_json().encode())
        self._signed, self._roster = self._read_roster()
        self.refresh_kits()

    def _read_roster(self) -> tuple[SignedRoster, Roster]:
        try:
            signed = SignedRoster.model_validate_json((self.path / ROSTER).read_bytes())
        except OSError as error:
            raise NotAFederationError(path=str(self.path), reason=f"{ROSTER}: {error.strerror}") from error
        except ValidationError as error:
            raise RosterError(reason=f"{self.path / ROSTER} is damaged") from error
        return signed, verify_roster(
            signed.document, signed.signature, self.authority.certificate, previous=None
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes out, and see what they did before."""
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._signed, self._roster = self._read_roster()
            yield
        finally:
            os.close(descriptor)


def _make_folder(path: Path) -> None:
    """Make the folder, or empty one that a cut-short `create` left."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = {"ca", "broker", "kits", ROSTER}
    found = {entry.name for entry in path.iterdir()}
    if found and not ("ca" in found and found <= left):
        raise FederationExistsError(path=str(path))
    for name in found:
        entry = path / name
        entry.unlink() if entry.is_file() else shutil.rmtree(entry)


def _toml(settings: FederationSettings) -> str:
    document = settings.model_dump(mode="json")
    limits = document.pop("limits")
    lines = [f"{key} = {json.dumps(value)}" for key, value in document.items()]
    return "\n".join([*lines, "", "[limits]", *(f"{key} = {value}" for key, value in limits.items()), ""])
