"""Define the records of an audit log and the chain that they form.

A record is one line of canonical JSON: sorted keys, no white space, ASCII, fields without a value left out. Its `sha256` is that of
the same JSON without the field `sha256`; its `previous` is the `sha256` of the record before it, 64 zeros for the first. So whoever
changes, removes, inserts or moves a record must write all later ones anew, and then the last hash is another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, Literal

from pydantic import ValidationError

from common.errors import AuditBrokenError
from common.ids import DatasetId, Digest, ExperimentId, PartyId, RunId, TaskId
from common.messages.base import Count, Name, Part, Text, UnixTime

FIRST: Final = Digest("0" * 64)
"""What the first record names as the one before it."""

_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_NO_HASH: Final = b',"sha256":""'

LINE_BYTES: Final = 64 * 1024
"""Longest line of a log; a record is far shorter."""


class Action(StrEnum):
    """What was done."""

    LOG_BEGUN = "log_begun"
    LOG_REPAIRED = "log_repaired"
    KIT_INSTALLED = "kit_installed"
    AGENT_START_ASKED = "agent_start_asked"
    AGENT_STARTED = "agent_started"
    AGENT_STOP_ASKED = "agent_stop_asked"
    AGENT_STOPPED = "agent_stopped"
    POLICY_CHANGED = "policy_changed"
    DATASET_REGISTERED = "dataset_registered"
    DATASET_UPDATED = "dataset_updated"
    DATASET_REMOVED = "dataset_removed"
    DATASET_CHANGED = "dataset_changed"
    DATASET_CHECKED = "dataset_checked"
    VALUES_SEEN = "values_seen"
    LOADING_PLAN_SAVED = "loading_plan_saved"
    LOADING_PLAN_REMOVED = "loading_plan_removed"
    DATASETS_DESCRIBED = "datasets_described"
    PLAN_REQUESTED = "plan_requested"
    PLAN_APPROVED = "plan_approved"
    PLAN_REJECTED = "plan_rejected"
    PLAN_STATUS_ASKED = "plan_status_asked"
    TASK_ASKED = "task_asked"
    TASKS_CANCELLED = "tasks_cancelled"
    TASK_FAILED = "task_failed"
    UPDATE_RELEASED = "update_released"
    AUDIT_EXPORTED = "audit_exported"
    PAGE_LOGIN = "page_login"
    PAGE_LOGOUT = "page_logout"
    PERSON_INVITED = "person_invited"
    PERSON_JOINED = "person_joined"
    PERSON_CHANGED = "person_changed"
    RUN_STARTED = "run_started"
    RUN_ENDED = "run_ended"
    DATASETS_ASKED = "datasets_asked"
    ROUND_OPENED = "round_opened"
    ROUND_ENDED = "round_ended"
    UPDATE_RECEIVED = "update_received"


class Entry(Part):
    """What is to be recorded. Never a value of the data, a parameter, a metric or a key."""

    action: Action
    actor: Name
    """Who did it: the id of a party, or `person NAME` for somebody at the keyboard of this machine."""
    outcome: Literal["done", "refused", "failed"] = "done"
    code: Name | None = None
    """Code of the error, if it was not done."""
    experiment_id: ExperimentId | None = None
    run_id: RunId | None = None
    round: Count | None = None
    task_id: TaskId | None = None
    plan_name: Name | None = None
    plan_hash: Digest | None = None
    dataset_id: DatasetId | None = None
    parties: tuple[PartyId, ...] | None = None
    """Who was told, or asked."""
    digest: Digest | None = None
    """SHA-256 of what came, was made or left."""
    bytes: Count | None = None
    """Its size."""
    count: Count | None = None
    """How many things it was about: data sets described, metrics told, tasks cancelled."""
    note: Text | None = None
    """What a person said, or a limit that was set."""


class Record(Entry):
    """An entry in its place."""

    number: Count
    at: UnixTime
    party: PartyId
    """Who keeps the log."""
    previous: Digest
    sha256: Digest


def chained(
    entry: Entry, *, number: int, at: float, party: PartyId, previous: Digest
) -> tuple[Digest, bytes]:
    """Return the hash of an entry as the record that follows another, and the line that this is.

    Args:
        entry: What is to be recorded.
        number: Its place, from 0.
        at: Unix time.
        party: Who keeps the log.
        previous: The `sha256` of the record before it; `FIRST` for the first.
    """
    place = {"number": number, "at": at, "party": party, "previous": previous, "sha256": ""}
    before, _, behind = _canonical(vars(entry) | place).partition(
        _NO_HASH
    )  # in no text: there a quote has a backslash
    digest = Digest(hashlib.sha256(before + behind).hexdigest())
    return digest, b'%b,"sha256":"%b"%b\n' % (before, digest.encode(), behind)


def line_of(record: Record) -> bytes:
    """Return a record as the line that it is, with its end."""
    return _canonical(record.model_dump(mode="json")) + b"\n"


def read_chain(lines: Iterable[bytes], *, source: str) -> Iterator[Record]:
    """Yield the records in these lines, from the first of a log on, as long as each follows from the one before it.

    Args:
        lines: The lines, each with its end.
        source: Where they come from, for errors.

    Raises:
        AuditBrokenError: At the first line that was changed, is missing or does not belong there; names its number.
    """
    previous = FIRST
    for number, line in enumerate(lines):
        try:
            record = Record.model_validate_json(line)
        except ValidationError as error:
            raise AuditBrokenError(path=source, reason=f"record {number} cannot be read") from error
        facts = record.model_dump(mode="json", exclude={"sha256"})
        if hashlib.sha256(_canonical(facts)).hexdigest() != record.sha256 or line_of(record) != line:
            raise AuditBrokenError(path=source, reason=f"record {number} was changed")
        if record.number != number:
            raise AuditBrokenError(
                path=source, reason=f"record {record.number} stands in the place of record {number}"
            )
        if record.previous != previous:
            raise AuditBrokenError(
                path=source, reason=f"record {number} does not follow from the one before it"
            )
        previous = record.sha256
        yield record


def _canonical(facts: dict[str, object]) -> bytes:
    stated = {name: value for name, value in facts.items() if value is not None}
    return _JSON.encode(stated).encode("ascii")
