"""Turn facts into HTML."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from common.text import visible, visible_lines
from node.gui.people import Role
from node.gui.texts import t

_STEP: Final = 1024


@cache
def environment() -> Environment:
    """Return what renders the templates: everything is escaped, nothing hides, and what is missing is an error."""
    made = Environment(
        loader=PackageLoader("node.gui", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    addresses = {name: f"/static/{digest(data)}/{name}" for name, data in static_files().items()}
    made.globals.update(t=t, Role=Role, static=addresses)
    made.filters.update(lines=_lines, coded=_coded, size=_size, moment=_moment, number=_number)
    return made


def digest(data: bytes) -> str:
    """Return the part of a file's address that changes with its content."""
    return hashlib.sha256(data).hexdigest()[:16]


@cache
def static_files() -> Mapping[str, bytes]:
    """Return the files that pages refer to, by name: there is no other way to them, so no path leads elsewhere."""
    return {
        file.name: file.read_bytes() for file in (files("node.gui") / "static").iterdir() if file.is_file()
    }


def _seen(value: Any) -> Any:
    """Return what is shown of a value: of text from others, also what would hide."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Return text of many lines, in which nothing hides but their ends."""
    return escape(visible_lines(text))


def _coded(text: str) -> Markup:
    """Return a sentence of our documentation, in which backticks enclose code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} TiB"


def _number(count: float) -> str:
    """Return a whole number in groups of three digits."""
    return f"{count:,.0f}".replace(",", "\u202f")


def _moment(unix_time: float | None) -> Markup:
    """Return a Unix time in the time zone of this machine, to the second, for people and for programs."""
    if unix_time is None:
        return Markup("&ndash;")
    when = datetime.fromtimestamp(unix_time, tz=UTC).astimezone()
    shown = when.strftime("%Y-%m-%d %H:%M:%S")
    return Markup('<time datetime="{}">{}</time>').format(when.isoformat(timespec="seconds"), shown)
