"""The command that serves the web page."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from common.cli import AsJson, emit, reported
from common.errors import MissingExtraError
from node.cli.options import Home

if TYPE_CHECKING:
    from node.gui.listen import Listen

Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Where; 0 takes any port that is free.")]
Host = Annotated[
    str, typer.Option("--host", help="Address to listen at; one that others can reach needs a certificate.")
]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="File with a certificate, for TLS.")]
Key = Annotated[Path | None, typer.Option("--key", help="File with the key of the certificate.")]


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command()(gui)


@reported
def gui(
    home: Home,
    port: Port = 8484,
    host: Host = "127.0.0.1",
    certificate: Certificate = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Serve the node's web page until Ctrl-C; the agent may run or not."""
    from common import logs
    from node.home import NodeHome

    serve = _server().serve
    node, listen = NodeHome.open(home), listening(port, host, certificate, key)
    logs.configure("INFO", file=node.log / "gui.jsonl")

    def ready(address: str, link: str | None) -> None:
        lines = [f"the page of {node.connection().party} is at {address}; Ctrl-C ends it"]
        if link is not None:
            lines.append(f"nobody has an account yet; make the first one here, within a day: {link}")
        emit({"address": address, "link": link}, *map(escape, lines), as_json=as_json)

    serve(node, listen, ready=ready)


def listening(port: int, host: str, certificate: Path | None, key: Path | None) -> Listen:
    """Return where the page is served.

    Raises:
        InvalidSettingsError: If the options do not go together.
    """
    from common.settings import validate
    from node.gui.listen import Listen

    document = {"port": port, "host": host, "certificate": certificate, "key": key}
    return validate(document, Listen, source="the options of the page")


def _server() -> ModuleType:
    """Return the server of the page, which stands on libraries that not every node has.

    Raises:
        MissingExtraError: If they are not installed.
    """
    try:
        return import_module("node.gui.server")
    except ImportError as error:
        raise MissingExtraError(feature="the web page", package=str(error.name), extra="gui") from error
