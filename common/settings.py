"""Hold the settings that both sides share, each with its unit, default and reason.

Settings are read once, at start, into frozen objects. A file that is wrong is refused with every mistake at once.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import InvalidSettingsError, KitVersionError
from common.ids import PartyId

Seconds = Annotated[float, Field(gt=0, le=7 * 86400)]
Role = Literal["node", "researcher", "registrar"]

KIT_VERSION: Final = 1
"""Goes up when a kit of this version cannot be read by those who read the one before."""


class Settings(BaseModel):
    """A frozen group of settings in which unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Timeouts(Settings):
    """Every time limit of the product, in seconds; `warren_timeouts_total{timeout="<name>"}` counts each that fires.

    The deadline of a round belongs to the strategy of the experiment and is not a setting.
    """

    connect_s: Seconds = 10.0
    """One attempt to reach the broker: TCP, TLS and login; also one call of its HTTP interface."""
    reconnect_first_s: Seconds = 2.0
    """Pause before the second attempt to connect; later ones back off with jitter."""
    reconnect_max_s: Seconds = 30.0
    """Longest pause between attempts to connect."""
    heartbeat_s: Seconds = 30.0
    """Silence on a connection after which the broker or the client is taken for dead."""
    reply_s: Seconds = 5.0
    """Wait for the answer to a short request: list, search, approval, status."""
    presence_s: Seconds = 5.0
    """Silence after which a node counts as offline; nodes speak every 0.4 of it."""
    worker_start_s: Seconds = 120.0
    """From spawning a worker to its being ready: imports torch, which is slow on a cold disk; also the boot of a private broker."""
    progress_s: Seconds = 3600.0
    """Silence of a running worker after which it counts as hung."""
    stop_s: Seconds = 2.0
    """Grace for an orderly end before something is cut off: a connection that closes, a last message; an agent gets five of it."""
    lock_s: Seconds = 10.0
    """Wait for another process that is writing to the same database; the same for all who share it, so a kit does not change it."""


class Connection(Settings):
    """Where the broker is and who this party is: `connection.toml` of a kit.

    Raises:
        KitVersionError: If a newer Warren made the kit, whatever else it says.
    """

    version: Annotated[int, Field(ge=1, strict=True)] = KIT_VERSION
    """Of the kit."""
    federation: str
    party: PartyId
    role: Role
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    server_name: str
    """Name that the broker's certificate must carry."""
    vhost: str
    timeouts: Timeouts = Timeouts()

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, document: object) -> object:
        """Look at the version before anything else: what a newer kit says besides may not be known here."""
        stated = document.get("version") if isinstance(document, dict) else None
        if isinstance(stated, int) and stated > KIT_VERSION:
            raise KitVersionError(theirs=stated, ours=KIT_VERSION)
        return document


SettingsT = TypeVar("SettingsT", bound=BaseModel)


def load_toml(path: Path, model: type[SettingsT]) -> SettingsT:
    """Read a TOML file into a settings object.

    Raises:
        InvalidSettingsError: If the file is missing, is not TOML, or breaks the model; names every mistake.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib raises all three for hostile bytes
        raise InvalidSettingsError(source=str(path), problems=f"  {error}") from error
    return validate(document, model, source=str(path))


def validate(document: object, model: type[SettingsT], *, source: str) -> SettingsT:
    """Check a document against a settings model.

    Raises:
        InvalidSettingsError: If it breaks the model; names every mistake.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidSettingsError(source=source, problems=describe(error)) from error


def describe(error: ValidationError) -> str:
    """Return one line for each mistake that pydantic found, without the offending values."""
    lines = [
        f"  {'.'.join(str(part) for part in item['loc']) or '(all)'}: {item['msg']}"
        for item in error.errors()
    ]
    return "\n".join(lines)
