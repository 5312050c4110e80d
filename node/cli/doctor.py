"""The command that says whether a node has what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer
from rich.markup import escape

from common.cli import FAILED, AsJson, emit, reported
from node.cli.options import Home

if TYPE_CHECKING:
    from node.doctor import Finding

_COLOURS: Final = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(doctor)


@reported
def doctor(home: Home, as_json: AsJson = False) -> None:
    """Look at kit, broker, data sets, disk and the protections around workers; exit with 1 if something is wrong."""
    from dataclasses import asdict

    from common import logs
    from node.doctor import Health, examine
    from node.home import NodeHome

    logs.configure(stream=None)
    findings = examine(NodeHome.open(home))
    healthy = all(finding.health is not Health.WRONG for finding in findings)
    document = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
    emit(document, *(line for finding in findings for line in _lines(finding)), as_json=as_json)
    if not healthy:
        raise typer.Exit(FAILED)


def _lines(finding: Finding) -> list[str]:
    colour = _COLOURS[finding.health]
    lines = [f"[{colour}]{finding.health:<5}[/]  [bold]{escape(finding.subject)}[/]: {escape(finding.text)}"]
    return [*lines, f"       [dim]what to do:[/] {escape(finding.advice)}"] if finding.advice else lines
