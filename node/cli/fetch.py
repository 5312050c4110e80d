"""The command that fetches a public collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from common.cli import AsJson, emit, reported, table


@reported
def fetch(
    collection: Annotated[str, typer.Argument(help="mnist or mednist.")],
    folder: Annotated[Path, typer.Argument(help="Where to: a new or an empty folder.")],
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A folder that has the files already, on a machine without the internet."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a public collection and check its digests; all of it comes, or nothing."""
    from common.errors import FetchError
    from node.collections import collections
    from node.fetching import fetch as bring

    known = collections()
    if collection not in known:
        raise FetchError(place=collection, reason=f"it is not known; there are {', '.join(known)}")
    found = bring(known[collection], folder.expanduser(), source=from_ and from_.expanduser())
    emit(
        {"collection": collection, "folder": folder, "files": [asdict(one) for one in found]},
        f"{known[collection].about} is in {folder}",
        table(
            "file", "bytes", "sha256", "unpacked",
            rows=[(one.name, one.size_bytes, one.sha256, one.files) for one in found],
        ),
        as_json=as_json,
    )  # fmt: skip
