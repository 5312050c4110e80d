"""Commands about the node as a whole: make a home, start, ask, stop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from common.cli import FAILED, AsJson, emit, moment, reported
from node.cli.gui import HOST, PORT, page_of
from node.cli.options import Home, person

if TYPE_CHECKING:
    from node.process import HomeReport
    from node.steward.agents import AgentControl

KitOption = Annotated[
    Path, typer.Option("--kit", metavar="KIT", help="Folder that the federation operator handed out.")
]
Background = Annotated[
    bool, typer.Option("--background", help="Return when the agent is ready and leave it running.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log what is only of use to find a fault, too.")]
Gui = Annotated[bool, typer.Option("--gui", help="Serve the node's web page on this machine, too.")]
GuiHost = Annotated[
    str,
    typer.Option("--gui-host", help="Address of the web page; other than the loopback only in a container."),
]
GuiPort = Annotated[int, typer.Option("--gui-port", min=0, max=65535, help="Where the web page is served.")]
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 1 unless the agent runs, is connected and does not pause.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with each line that comes, until Ctrl-C.")
]
Lines = Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from the end.")]


def register(app: typer.Typer) -> None:
    """Add these commands to an app."""
    for command in (init, start, status, stop, restart, logs):
        app.command()(command)


@reported
def init(home: Home, kit: KitOption, as_json: AsJson = False) -> None:
    """Make a node's home from its kit, or put a renewed kit into it."""
    install(home, kit)
    made = _agent(home).home
    connection = made.connection()
    document = {"home": made.path, "party": connection.party, "federation": connection.federation}
    emit(
        document,
        f"[bold]{connection.party}[/] of {connection.federation} has its home in {escape(str(made.path))}",
        escape(f"next: warren-node dataset add {home}, then warren-node start {home}"),
        as_json=as_json,
    )


def install(home: Path, kit: Path) -> None:
    """Put a kit into a home, new or not, and record that."""
    from node.steward.agents import AgentControl

    AgentControl.install(home, kit, by=person())


@reported
def start(
    home: Home,
    background: Background = False,
    verbose: Verbose = False,
    gui: Gui = False,
    gui_port: GuiPort = PORT,
    gui_host: GuiHost = HOST,
    as_json: AsJson = False,
) -> None:
    """Run the node's agent until Ctrl-C, or in the background; with its web page, if asked for."""
    from common import logs as logging_setup

    agent, page = _agent(home), page_of(gui_port, gui_host) if gui else None
    party, log = agent.home.connection().party, agent.home.log_path
    level = "DEBUG" if verbose else "INFO"
    if background:
        pid = agent.start(level=level, page=page)
        emit(
            {"party": party, "pid": pid, "log": log},
            escape(f"the agent of {party} runs as process {pid}; its log is {log}"),
            as_json=as_json,
        )
        return
    logging_setup.configure(level, file=log)
    agent.run(
        ready=lambda: emit(
            {"party": party, "pid": os.getpid(), "log": log},
            f"the agent of {party} runs; Ctrl-C stops it",
            as_json=as_json,
        ),
        page=page,
        terminal=sys.stdout.isatty() and not as_json,
    )


@reported
def status(home: Home, check: Check = False, as_json: AsJson = False) -> None:
    """Show whether the agent runs, what it is doing and what waits for a decision."""
    from dataclasses import asdict

    from node.exporter import health

    found = _agent(home).report()
    document = asdict(found) | {"status": found.status and found.status.model_dump(mode="json")}
    emit(document, *_sentences(found), as_json=as_json)
    if check and not health(found.status)[0]:
        raise typer.Exit(FAILED)


@reported
def stop(home: Home, as_json: AsJson = False) -> None:
    """Stop the agent; a task in work is done again after the next start."""
    agent = _agent(home)
    outcome = agent.stop()
    party = agent.home.connection().party
    words = "did not stop in time and was killed" if outcome == "killed" else outcome
    emit({"party": party, "outcome": outcome}, f"the agent of {party} {words}", as_json=as_json)


@reported
def restart(home: Home, gui: Gui = False, gui_port: GuiPort = PORT, as_json: AsJson = False) -> None:
    """Stop the agent if one runs, and start it in the background; it goes on from its journal."""
    agent = _agent(home)
    party, log = agent.home.connection().party, agent.home.log_path
    made = agent.restart(page=page_of(gui_port) if gui else None)
    emit(
        {"party": party, "outcome": made.outcome, "pid": made.pid, "log": log},
        escape(
            f"the agent of {party} {made.outcome} before, and runs as process {made.pid}; its log is {log}"
        ),
        as_json=as_json,
    )


@reported
def logs(home: Home, lines: Lines = 50, follow: Follow = False, as_json: AsJson = False) -> None:
    """Show the end of the agent's log, and with `--follow` what comes; each line is a JSON document."""
    from common.text import visible

    agent = _agent(home)
    if follow:
        for line in _following(agent.home.log_path, lines):
            typer.echo(line if as_json else visible(line))
        return
    tail = agent.log_tail(lines)
    if tail is None:
        path = escape(str(agent.home.log_path))
        emit([], f"{path} does not exist yet: the agent never ran", as_json=as_json)
        return
    if as_json:
        emit([json.loads(line) for line in tail], as_json=True)
    else:
        typer.echo("\n".join(visible(line) for line in tail))


def _agent(home: Path) -> AgentControl:
    """Return the agent in the hands of the person at the keyboard."""
    from node.home import NodeHome
    from node.steward.agents import AgentControl

    return AgentControl(NodeHome.open(home), person())


def _following(path: Path, lines: int) -> Iterator[str]:
    """Yield the last lines of a file and each that is added, also after the file was rotated or before there is one."""
    import subprocess

    command = ("tail", f"--lines={lines}", "--follow=name", "--retry", "--", str(path))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", errors="replace"
    ) as tail:
        try:
            assert tail.stdout is not None  # noqa: S101  it was asked for above
            for line in tail.stdout:
                yield line.rstrip("\n")
        finally:
            tail.terminate()


def _sentences(found: HomeReport) -> list[str]:
    """Return a report for people."""
    from common.security.expiry import WARN_DAYS

    name = f"[bold]{found.party}[/] of {found.federation}"
    lines = [f"{name}: no agent runs"]
    if found.pid is not None:
        since = moment(found.status.started_at) if found.status else "just now"
        lines = [f"{name}: the agent runs as process {found.pid} since {since}"]
    if found.status:
        word = "connected" if found.status.connected else "not connected"
        lines.append(
            f"  broker:    {word} since {moment(found.status.changed_at)} ({escape(found.status.detail) or 'no detail'})"
        )
        if found.status.notice:
            lines.append(f"  notice:    {escape(found.status.notice)}")
        if found.status.paused:
            lines.append(f"  paused:    {escape(found.status.paused)}; goes on by itself when there is space")
    lines.append(f"  tasks:     {found.running} running, {found.waiting} waiting, {found.unsent} to be sent")
    if found.rests_until is not None:
        lines.append(f"  hours:     no task begins before {moment(found.rests_until)}")
    lines.append(f"  data sets: {found.datasets}")
    if found.changed:
        names = escape(", ".join(found.changed))
        lines.append(f"  changed:   {names}; no task runs on them before `dataset check` or `dataset update`")
    lines.append(f"  plans:     {found.plans_pending} wait for a decision")
    kit = found.kit_problem or f"valid for {found.kit_days_left:.0f} days"
    if found.kit_days_left is not None and found.kit_days_left < WARN_DAYS:
        kit += "; ask the federation operator to renew it"
    lines.append(f"  kit:       {escape(kit)}")
    return lines
