"""Know the public collections that a node can fetch, and what each of their files must be."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from common.settings import Settings

Size = Annotated[int, Field(gt=0)]


def _plain(name: str) -> str:
    if PurePosixPath(name).name != name or name.startswith("."):
        raise ValueError(f"{name} is no plain name")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]


class Unpacking(Settings):
    """What may come out of a tar archive."""

    below: PlainName
    """Its one folder, whose contents are kept."""
    most_bytes: Size
    """Of the unpacked archive."""
    most_files: Size


class RemoteFile(Settings):
    """A file of a collection."""

    name: PlainName
    url: Annotated[str, Field(pattern=r"^https://")]
    most_bytes: Size
    """No more than this is read."""
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    md5: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    """The digest of a file of which nobody published another one."""
    unpack: Unpacking | None = None

    @model_validator(mode="after")
    def _has_one_digest(self) -> RemoteFile:
        if (self.sha256 is None) == (self.md5 is None):
            raise ValueError(f"{self.name} needs sha256 or md5")
        return self


class Collection(Settings):
    """A public collection."""

    about: str
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)]


def collections() -> dict[str, Collection]:
    """Return the collections by name."""
    text = (files("node") / "collections.toml").read_text("utf-8")
    return TypeAdapter(dict[str, Collection]).validate_python(tomllib.loads(text))
