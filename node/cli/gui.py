"""The command that serves the web page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from common.cli import AsJson, emit, reported
from common.errors import MissingExtraError
from node.cli.options import Home

if TYPE_CHECKING:
    from node.gui.listen import Listen

PORT: Final = 8484
HOST: Final = "127.0.0.1"

LIBRARIES: Final = (
    "PIL",
    "argon2",
    "jinja2",
    "pygments",
    "pyotp",
    "python_multipart",
    "segno",
    "starlette",
    "uvicorn",
)

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
    port: Port = PORT,
    host: Host = HOST,
    certificate: Certificate = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Serve the node's web page until Ctrl-C; the agent may run or not."""
    from common import logs
    from node.home import NodeHome

    node, listen = NodeHome.open(home), page_of(port, host, certificate, key)
    from node.gui.server import serve

    logs.configure("INFO", file=node.log / "gui.jsonl", stream=None)

    def ready(address: str, link: str | None) -> None:
        lines = [f"the page of {node.connection().party} is at {address}; Ctrl-C ends it"]
        if link is not None:
            lines.append(f"nobody has an account yet; make the first one here, within a day: {link}")
        emit({"address": address, "link": link}, *map(escape, lines), as_json=as_json)

    serve(node, listen, ready=ready)


def page_of(port: int, host: str = HOST, certificate: Path | None = None, key: Path | None = None) -> Listen:
    """Return where the page is to be served.

    Raises:
        MissingExtraError: If a library of the page is not installed.
        InvalidSettingsError: If the options do not go together.
    """
    from common.settings import validate
    from node.gui.listen import Listen

    for library in LIBRARIES:
        if find_spec(library) is None:
            raise MissingExtraError(feature="the web page", package=library, extra="gui")
    document = {"port": port, "host": host, "certificate": certificate, "key": key}
    return validate(document, Listen, source="the options of the page")
