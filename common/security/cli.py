"""Offer the command that makes keys and has them signed for, which is the same for nodes and researchers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from common.cli import AsJson, emit, reported
from common.errors import EnrolmentError, FingerprintError
from common.ids import party_id

if TYPE_CHECKING:
    from common.security.enrolment import SignedRequest


Home = Annotated[Path, typer.Argument(metavar="HOME", help="The folder of this party; made if need be.")]
Id = Annotated[str, typer.Option("--id", metavar="PARTY", help="The id that this party wants.")]
Federation = Annotated[
    str, typer.Option("--federation", metavar="NAME", help="The federation that it wants to join.")
]
Reply = Annotated[
    Path | None,
    typer.Option("--reply", metavar="FOLDER", help="What the federation answered: go on with it."),
]
Authority = Annotated[
    str,
    typer.Option(
        "--authority",
        metavar="FINGERPRINT",
        help="What the operator read to you; you are asked if it is not given.",
    ),
]


def enrol_command(
    role: Literal["node", "researcher"], install: Callable[[Path, Path], None]
) -> Callable[..., None]:
    """Return the command.

    Args:
        role: What the parties of this program do.
        install: Puts a kit, given second, into a home, given first, which may be new.
    """

    @reported
    def enroll(
        home: Home,
        party: Id = "",
        federation: Federation = "",
        reply: Reply = None,
        authority: Authority = "",
        as_json: AsJson = False,
    ) -> None:
        """Make the keys of this party here and ask the federation to sign for them; with --reply, go on with its answer."""
        from common.security import enrolment
        from common.security.kit import AUTHORITY

        folder = home / enrolment.FOLDER
        if reply is None:
            request = _begun(folder, party, federation, role)
            shown = enrolment.request_fingerprint(request)
            emit(
                {"party": request.party, "request": folder / enrolment.REQUEST, "fingerprint": shown},
                escape(
                    f"Send {folder / enrolment.REQUEST} to the operator of {request.federation}, and read this to them:"
                ),
                f"fingerprint [bold]{shown}[/]",
                escape(
                    f"They run: warren federation sign DIR {enrolment.REQUEST}; then you: enroll {home} --reply FOLDER"
                ),
                as_json=as_json,
            )
            return
        keys = folder if (folder / enrolment.REQUEST).is_file() else home / "kit"
        if not keys.is_dir():
            raise EnrolmentError(path=home, reason="no enrolment was begun there")
        draft = folder / "kit"
        shutil.rmtree(draft, ignore_errors=True)  # of an attempt that was cut short
        folder.mkdir(mode=0o700, exist_ok=True)
        kit = enrolment.complete(keys, reply, draft, now=time.time())
        try:
            shown = enrolment.authority_fingerprint(kit.authority)
            known = home / "kit" / AUTHORITY
            if known.is_file() and known.read_bytes() == (draft / AUTHORITY).read_bytes():
                authority = authority or shown  # that of before, which was compared then
            if not authority:
                typer.echo(f"fingerprint of the authority of {kit.connection.federation}: {shown}", err=True)
                authority = typer.prompt("Type the fingerprint that the operator reads to you", err=True)
            if not enrolment.same_fingerprint(authority, shown):
                raise FingerprintError(actual=shown, expected=authority)
            install(home, draft)
        finally:
            shutil.rmtree(draft)
        shutil.rmtree(folder, ignore_errors=True)
        document = {"home": home, "party": kit.connection.party, "federation": kit.connection.federation}
        emit(
            document,
            escape(f"{kit.connection.party} of {kit.connection.federation} has its home in {home}"),
            as_json=as_json,
        )

    return enroll


def _begun(folder: Path, party: str, federation: str, role: Literal["node", "researcher"]) -> SignedRequest:
    """Return the request that waits in a folder, or a new one."""
    from common.security import enrolment
    from common.security.identity import passphrase

    if (folder / enrolment.REQUEST).is_file():
        request, _ = enrolment.read_request(folder / enrolment.REQUEST)
        if party not in ("", request.party) or federation not in ("", request.federation):
            raise EnrolmentError(
                path=folder, reason=f"{request.party} waits for the answer of {request.federation}"
            )
        return request
    if not party or not federation:
        raise EnrolmentError(path=folder, reason="--id and --federation are missing")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was cut short
    return enrolment.begin(
        folder, party_id(party), role, federation, now=time.time(), passphrase=passphrase()
    )
