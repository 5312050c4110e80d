"""Write events as lines of JSON, and read them back."""

from __future__ import annotations

import sys
from typing import Final, TextIO, get_args

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from researcher.monitoring.events import Event

_KINDS: Final[dict[str, TypeAdapter[Event]]] = {kind.__name__: TypeAdapter(kind) for kind in get_args(Event)}


def line_of(event: Event) -> bytes:
    """Return one line of JSON, with its end: the name of the event under `event`, and its fields."""
    name = type(event).__name__
    return to_json({"event": name, **_KINDS[name].dump_python(event, mode="json")}) + b"\n"


def event_of(line: bytes) -> Event:
    """Return the event that a line of `line_of` tells.

    Raises:
        ValueError: If it tells none.
    """
    fields = from_json(line)
    kind = _KINDS.get(fields.pop("event", ""))
    if kind is None:
        raise ValueError("the line tells no event that is known here")
    return kind.validate_python(fields)


class LinesView:
    """Prints every event as a line of JSON, for programs."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Write to a stream; to standard output if none is given."""
        self._out = out or sys.stdout

    def on_event(self, event: Event) -> None:
        """Print an event."""
        self._out.write(line_of(event).decode())
        self._out.flush()
