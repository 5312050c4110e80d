"""Fetch public collections for the people of a node: over https alone, by digest, all of a collection or nothing."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from common.errors import FetchError
from common.settings import Timeouts
from node.collections import Collection, RemoteFile
from node.unpacking import ArchiveError, unpack

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that came and is what it must be.

    Attributes:
        name: Its name.
        size_bytes: Its size.
        sha256: Its digest, also where the collection knows it by another.
        files: How many files were unpacked from it; none if it is kept as it is.
    """

    name: str
    size_bytes: int
    sha256: str
    files: int | None


def fetch(
    collection: Collection,
    folder: Path,
    *,
    source: Path | None = None,
    tls: ssl.SSLContext | None = None,
) -> list[Fetched]:
    """Bring a collection into a new or empty folder, which has all of it afterwards, or is as it was.

    Args:
        collection: What to fetch.
        folder: Where to; made if it is not there.
        source: A folder that has the files already, for a node without the internet: they are copied and checked alike.
        tls: Whom to trust; the authorities of the system if not given.

    Raises:
        FetchError: If the folder is not empty, a file cannot be had, is larger than it may be or is another one, or if an archive
            holds what it must not.
    """
    folder = folder.resolve()
    try:
        if folder.exists() and any(folder.iterdir()):
            raise _failed(folder, "the folder is not empty")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
            ready = Path(beside) / "ready"
            ready.mkdir()
            found = [_one(file, Path(beside), ready, source, tls) for file in collection.files]
            os.sync()  # contents are on disk before the folder has its name
            ready.rename(folder)
    except OSError as error:
        raise _failed(error.filename or folder, error.strerror or str(error)) from error
    return found


def _one(
    file: RemoteFile, beside: Path, ready: Path, source: Path | None, tls: ssl.SSLContext | None
) -> Fetched:
    """Bring one file, and unpack it if it is an archive."""
    target = (beside if file.unpack else ready) / file.name
    place = file.url if source is None else str(source / file.name)
    opening = _asked(file, tls) if source is None else _carried(source / file.name)
    with opening as (stream, announced), target.open("xb") as kept:
        size, digests = _copied(file, place, stream, kept, announced)
    try:
        count = unpack(target, ready, file.unpack) if file.unpack else None
    except ArchiveError as error:
        raise _failed(place, str(error)) from error
    return Fetched(file.name, size, digests["sha256"], count)


def _copied(
    file: RemoteFile, place: str, stream: BinaryIO, kept: BinaryIO, announced: int | None
) -> tuple[int, dict[str, str]]:
    """Copy what is within the size and has the digest; return both."""
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    size = 0
    try:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > file.most_bytes:
                raise _failed(place, f"it has more than {file.most_bytes} bytes")
            for one in sums.values():
                one.update(block)
            kept.write(block)
    except http.client.HTTPException as error:
        raise _failed(place, "the connection ended early") from error
    if announced is not None and size < announced:
        raise _failed(place, "the connection ended early")
    digests = {name: one.hexdigest() for name, one in sums.items()}
    kind, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    if digests[kind] != expected:
        raise _failed(place, f"its {kind} is {digests[kind]}, and {expected} was expected")
    return size, digests


@contextmanager
def _carried(path: Path) -> Iterator[tuple[BinaryIO, None]]:
    with path.open("rb") as stream:
        yield stream, None


@contextmanager
def _asked(file: RemoteFile, tls: ssl.SSLContext | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """Yield the body of the answer to a request for a file, and its size if the server announces it."""
    opener = urllib.request.OpenerDirector()  # the usual one would also follow to http, ftp and files
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=tls or ssl.create_default_context()),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    try:
        # as long as any other connection may be silent
        response = opener.open(file.url, timeout=Timeouts().heartbeat_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise _failed(file.url, f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _failed(file.url, str(error.reason)) from error
    except http.client.HTTPException as error:
        raise _failed(file.url, "the answer is no HTTP") from error
    with response:
        length = response.headers.get("Content-Length", "")
        announced = int(length) if length.isdecimal() else None
        if announced is not None and announced > file.most_bytes:
            raise _failed(file.url, f"it has {announced} bytes, and {file.most_bytes} are allowed")
        yield cast("BinaryIO", response), announced


def _failed(place: object, reason: str) -> FetchError:
    return FetchError(place=place, reason=reason)
