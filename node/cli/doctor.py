"""The command that says whether a node has what it needs."""

from __future__ import annotations

import typer

from common.cli import AsJson, reported
from node.cli.options import Home


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(doctor)


@reported
def doctor(home: Home, as_json: AsJson = False) -> None:
    """Look at kit, way to the broker, data sets, machine and protections around workers; exit with 1 if something is wrong."""
    from common import logs
    from common.doctor import show
    from node.doctor import examine
    from node.home import NodeHome

    logs.configure(stream=None)
    show(examine(NodeHome.open(home)), as_json=as_json)
