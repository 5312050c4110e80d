"""The command `warren`: make federations, run their broker, look things up."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from common.cli import AsJson, emit, new_app, new_program, reported, table
from common.errors import FingerprintError, catalogue
from common.ids import party_id
from common.security.enrolment import (
    authority_fingerprint,
    read_request,
    request_fingerprint,
    same_fingerprint,
)
from common.security.roster import Member, Roster
from common.settings import Role
from deploy.broker import PrivateBroker
from deploy.dead_letters import dead_letters
from deploy.doctor import doctor
from deploy.endpoint import running_endpoint
from deploy.errors_page import error_document
from deploy.federation import Federation
from deploy.handover import hand_over
from deploy.membership import announce, synchronise

app = new_program("Make federations, run their broker, try everything out.")
federations = new_app("Make a federation and decide who is in it.")
brokers = new_app("Run the broker of a federation, or hand it to somebody who does.")
app.add_typer(federations, name="federation")
app.add_typer(brokers, name="broker")
app.add_typer(dead_letters, name="dead")

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the federation.")]
_KEYS = {"party": "made by the party", "federation": "made by the federation"}
Party = Annotated[str, typer.Argument(help="Id of the party: 1 to 40 of a-z, 0-9 and -.")]
Days = Annotated[float, typer.Option(min=1, max=3650, help="Days that the party's certificate lasts.")]


@federations.command()
@reported
def init(
    directory: Directory,
    name: Annotated[str, typer.Option(help="Name of the federation; by default that of the folder.")] = "",
    host: Annotated[str, typer.Option(help="Where the parties reach the broker.")] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its TLS port; 0 picks a free one.")] = 5671,
    server_name: Annotated[
        list[str] | None, typer.Option(help="Another name or IP address of the broker; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new federation: its authority, its registrar and its broker's certificate."""
    federation = Federation.create(
        directory, name or directory.resolve().name, host=host, port=port, server_names=server_name or ()
    )
    document = _describe(federation)
    emit(
        document,
        f"Made the federation [bold]{federation.name}[/] in {_shown(directory)}; "
        f"its broker is {host}:{federation.settings.port}.",
        f"Fingerprint of its authority: {federation.fingerprint()}",
        f"Next: warren federation add-researcher {_shown(directory)} NAME",
        as_json=as_json,
    )


@federations.command("add-researcher")
@reported
def add_researcher(directory: Directory, party: Party, days: Days = 397, as_json: AsJson = False) -> None:
    """Add a researcher and write its kit; a running broker takes it in at once."""
    _add(directory, party, "researcher", days, as_json=as_json)


@federations.command("add-node")
@reported
def add_node(directory: Directory, party: Party, days: Days = 397, as_json: AsJson = False) -> None:
    """Add a node and write its kit; a running broker takes it in at once."""
    _add(directory, party, "node", days, as_json=as_json)


@federations.command()
@reported
def sign(
    directory: Directory,
    request: Annotated[Path, typer.Argument(help="The request.json that the party handed out.")],
    fingerprint: Annotated[
        str, typer.Option(help="What the party read to you; you are asked if it is not given.")
    ] = "",
    days: Days = 397,
    as_json: AsJson = False,
) -> None:
    """Take in a party that made its own keys, or give a member new ones, and write the reply, in which nothing is secret."""
    federation, (asked, key) = Federation.load(directory), read_request(request)
    shown = request_fingerprint(asked)
    if not fingerprint:
        typer.echo(
            f"{asked.party} wants to be a {asked.role} of {asked.federation}; fingerprint {shown}", err=True
        )
        fingerprint = typer.prompt("Type the fingerprint that the party reads to you", err=True)
    if not same_fingerprint(fingerprint, shown):
        raise FingerprintError(actual=shown, expected=fingerprint)
    before = federation.roster
    reply = federation.sign(asked, key, days=days)
    running, authority = _follow(federation, before), authority_fingerprint(federation.authority.certificate)
    document = {
        "party": asked.party,
        "role": asked.role,
        "reply": str(reply),
        "fingerprint": shown,
        "authority": authority,
        "serial": federation.roster.serial,
        "broker_running": running,
    }
    emit(
        document,
        f"Signed for the {asked.role} [bold]{asked.party}[/]. Send it the folder {_shown(reply)}; nothing in it is secret.",
        f"Read this fingerprint of the authority to it: [bold]{authority}[/]",
        _broker_line(directory, running=running),
        as_json=as_json,
    )


@federations.command()
@reported
def renew(directory: Directory, party: Party, days: Days = 397, as_json: AsJson = False) -> None:
    """Give a member a new certificate for the keys that it has; the one before is good until it expires."""
    federation = Federation.load(directory)
    reply = federation.renew(party, days=days)
    running, member = _follow(federation), federation.roster.member(party_id(party))
    verb = "enroll HOME --reply" if member.keys_made_by == "party" else "init HOME --kit"
    program = "warren-node" if member.role == "node" else "warren-researcher"
    document = {
        "party": party,
        "reply": str(reply),
        "serial": federation.roster.serial,
        "broker_running": running,
    }
    emit(
        document,
        f"Renewed the certificate of [bold]{party}[/]. Send it {_shown(reply)}; there: {program} {verb} FOLDER",
        _broker_line(directory, running=running),
        as_json=as_json,
    )


@federations.command()
@reported
def revoke(directory: Directory, party: Party, as_json: AsJson = False) -> None:
    """Take a party out for good; a running broker closes its connections at once."""
    federation = Federation.load(directory)
    federation.revoke(party)
    running = _follow(federation)
    document = {"revoked": party, "serial": federation.roster.serial, "broker_running": running}
    emit(document, f"Revoked [bold]{party}[/].", _broker_line(directory, running=running), as_json=as_json)


@federations.command()
@reported
def show(directory: Directory, as_json: AsJson = False) -> None:
    """Show who is in a federation, and where its broker is."""
    federation = Federation.load(directory)
    settings, endpoint = federation.settings, running_endpoint(federation)
    state = f"running as process {endpoint.pid}" if endpoint else "no private broker is running"
    rows = [
        (
            member.party,
            member.role,
            _state(member),
            _day(member.added_at),
            member.certificate_sha256[:16],
            _KEYS[member.keys_made_by],
        )
        for member in federation.roster.members
    ]
    emit(
        _describe(federation),
        f"[bold]{federation.name}[/]  broker {settings.host}:{settings.port} ({state})  "
        f"roster {federation.roster.serial}",
        f"authority {federation.fingerprint()}, in short {authority_fingerprint(federation.authority.certificate)}",
        table("party", "role", "state", "added", "certificate", "keys", rows=rows),
        as_json=as_json,
    )


@federations.command("announce")
@reported
def announce_roster(directory: Directory, as_json: AsJson = False) -> None:
    """Bring the private broker, if it runs, to the roster, and send the roster to every party."""
    federation = Federation.load(directory)
    if not _follow(federation):
        announce(federation)
    parties = [member.party for member in federation.members()]
    emit(
        {"serial": federation.roster.serial, "parties": parties},
        f"Sent roster {federation.roster.serial} to {len(parties) - 1} parties.",
        as_json=as_json,
    )


@brokers.command()
@reported
def start(directory: Directory, as_json: AsJson = False) -> None:
    """Run a private RabbitMQ for the federation until Ctrl-C or SIGTERM."""
    broker = PrivateBroker(Federation.load(directory))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with broker:
            endpoint = broker.endpoint
            emit(
                {
                    "host": endpoint.host,
                    "port": endpoint.port,
                    "metrics": f"http://127.0.0.1:{endpoint.prometheus_port}/metrics",
                    "pid": endpoint.pid,
                    "log": str(broker.log),
                },
                f"The broker runs at [bold]{endpoint.host}:{endpoint.port}[/] (mutual TLS).",
                f"Metrics: http://127.0.0.1:{endpoint.prometheus_port}/metrics   Log: {_shown(broker.log)}",
                "Stop it with Ctrl-C.",
                as_json=as_json,
            )
            broker.wait()
    except KeyboardInterrupt:
        if not as_json:  # a program has had its one document
            emit(None, "Stopped.", as_json=False)


@brokers.command("definitions")
@reported
def broker_definitions(
    directory: Directory,
    out: Annotated[Path, typer.Option(help="A new folder for the files.")],
    major: Annotated[
        int, typer.Option("--rabbitmq", min=3, max=4, help="Major version of that RabbitMQ.")
    ] = 4,
    metrics_address: Annotated[
        str, typer.Option(help="IP address on which it shows its metrics, without a login.")
    ] = "127.0.0.1",
    replicated: Annotated[
        bool,
        typer.Option("--quorum", help="For a cluster: keep queues on several servers, as quorum queues."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the files for a RabbitMQ that somebody else runs."""
    files = hand_over(
        Federation.load(directory), out, lazy=major == 3, metrics=metrics_address, replicated=replicated
    )
    emit(
        {"files": [str(file) for file in files]},
        f"Wrote {', '.join(file.name for file in files)} to {_shown(out)}.",
        f"What to do with them is in {_shown(out / 'README.md')}; server.key is secret.",
        as_json=as_json,
    )


@app.command()
@reported
def demo(
    out: Annotated[
        Path, typer.Option(file_okay=False, writable=True, help="Folder for the results; made if need be.")
    ] = Path("warren-demo"),
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training.")] = 15,
    broker: Annotated[
        Literal["rabbitmq", "memory"], typer.Option(help="What carries messages.")
    ] = "rabbitmq",
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only the results.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let four real hospitals train one model on this machine, and leave only the results."""
    from deploy.demo.command import demonstrate

    demonstrate(out, rounds=rounds, broker=broker, quiet=quiet, as_json=as_json)


@app.command()
@reported
def errors(as_json: AsJson = False) -> None:
    """Show every error, with its code, cause and remedy."""
    documents = [error_document(kind) for kind in catalogue()]
    rows = [(entry["code"], entry["summary"], entry["cause"], entry["remedy"]) for entry in documents]
    emit({"errors": documents}, table("code", "error", "cause", "remedy", rows=rows), as_json=as_json)


app.command("doctor")(reported(doctor))


@app.command()
@reported
def data(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if need be.")],
    as_json: AsJson = False,
) -> None:
    """Write the demo's data, one csv file for each hospital, to try things out with."""
    from deploy.demo.hospitals import hospitals, write_csv

    directory.mkdir(parents=True, exist_ok=True)
    files = {name: directory / f"{name}.csv" for name in hospitals()}
    for name, hospital in hospitals().items():
        write_csv(hospital, files[name])
    emit(
        {"files": files},
        f"Wrote {', '.join(_shown(file) for file in files.values())}.",
        as_json=as_json,
    )


@app.command(hidden=True)
@reported
def docs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the pages: docs/reference.")],
    as_json: AsJson = False,
) -> None:
    """Write the pages of the reference that follow from the code."""
    from deploy.reference import write_reference

    files = write_reference(directory)
    emit({"files": files}, f"Wrote {', '.join(_shown(file) for file in files)}.", as_json=as_json)


def _add(directory: Path, party: str, role: Role, days: float, *, as_json: bool) -> None:
    federation = Federation.load(directory)
    kit = federation.add(party, role, days=days)
    running = _follow(federation)
    document = {
        "party": party,
        "role": role,
        "kit": str(kit),
        "serial": federation.roster.serial,
        "broker_running": running,
    }
    emit(
        document,
        f"Added the {role} [bold]{party}[/]. Its kit is {_shown(kit)}: hand it over by a safe way, its keys are secret.",
        _broker_line(directory, running=running),
        as_json=as_json,
    )


def _follow(federation: Federation, before: Roster | None = None) -> bool:
    """Bring a running private broker to the roster, and return whether there is one."""
    endpoint = running_endpoint(federation)
    if endpoint is not None:
        synchronise(federation, endpoint, before=before)
    return endpoint is not None


def _broker_line(directory: Path, *, running: bool) -> str:
    if running:
        return "The running broker follows already."
    return (
        f"No private broker is running: `warren broker start {_shown(directory)}`, or for somebody else's "
        f"`warren broker definitions {_shown(directory)} --out FOLDER`."
    )


def _describe(federation: Federation) -> dict[str, object]:
    settings = federation.settings
    return {
        "name": federation.name,
        "vhost": settings.vhost,
        "host": settings.host,
        "port": settings.port,
        "server_names": settings.server_names,
        "authority_sha256": federation.fingerprint(),
        "authority": authority_fingerprint(federation.authority.certificate),
        "serial": federation.roster.serial,
        "broker_running": running_endpoint(federation) is not None,
        "parties": [
            {
                "party": member.party,
                "role": member.role,
                "state": _state(member),
                "added_at": member.added_at,
                "revoked_at": member.revoked_at,
                "certificate_sha256": member.certificate_sha256,
                "keys_made_by": member.keys_made_by,
                "kit": str(federation.kit(member.party)),
            }
            for member in federation.roster.members
        ],
    }


def _shown(path: Path) -> str:
    return escape(str(path))


def _state(member: Member) -> str:
    return "member" if member.revoked_at is None else "revoked"


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
