"""Look at the newest records of an audit log without checking the chain, so that a long log is shown at once.

A record is one line of canonical JSON, so what a record says in a field stands in its line as it is, and nowhere else: a quote within
a text is escaped. Most lines are therefore told apart without being parsed. Whether the log is in order is for `verify`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from common.audit.record import Action, Record
from common.audit.selection import Selected, Selection
from common.errors import AuditBrokenError
from common.ids import TaskId

_AT: Final = re.compile(rb'"at":([^,}]+)')
_BYTES: Final = re.compile(rb'"bytes":(\d+)')
_COUNT: Final = re.compile(rb'"count":(\d+)')
_DATASET: Final = re.compile(rb'"dataset_id":"([^"]+)"')
_TASK: Final = re.compile(rb'"task_id":"([^"]+)"')
_PLAIN: Final = re.compile(r"[ !#-+\--\[\]-~]+")
"""Text that stands in a line as it is, in whatever list."""
_PARTS: Final = {
    "actor": re.compile(rb'"actor":"([^"]*)"'),
    "party": re.compile(rb'"parties":\[([^\]]*)\]'),
    "about": re.compile(
        rb'"(?:code|dataset_id|digest|experiment_id|note|plan_hash|plan_name|run_id|task_id)":"([^"]*)'
        rb'|"parties":\[([^\]]*)'
    ),
}
_PARTIES: Final = re.compile(rb'"parties":\[([^\]]+)\]')


@dataclass(slots=True)
class Tally:
    """How much some records are about: how many they are, the bytes and the things that they name."""

    records: int = 0
    bytes: int = 0
    things: int = 0


def glance(folder: Path, wanted: Selection, *, most: int, skipped: int = 0) -> Selected:
    """Return the last records that are wanted, oldest first, and how many are wanted in all.

    Args:
        folder: The folder of a log.
        wanted: Which ones.
        most: How many of them at most.
        skipped: How many of the very last ones are left out, for earlier pages.

    Raises:
        AuditBrokenError: If a line that is wanted cannot be read.
    """
    found, count = list[Record](), 0
    for count, line in enumerate(_Sieve(folder, wanted).lines(), start=1):
        if skipped < count <= skipped + most:
            found.append(_record(folder, line))
    return Selected(tuple(reversed(found)), count)


def latest_of(folder: Path, action: Action, task_ids: Collection[TaskId]) -> dict[TaskId, Record]:
    """Return the last record of an action for each of some tasks that has one.

    Raises:
        AuditBrokenError: If one of them cannot be read.
    """
    missing = {str(task_id).encode() for task_id in task_ids}
    found: dict[TaskId, Record] = {}
    for line in _Sieve(folder, Selection(actions=frozenset({action}))).lines():
        if not missing:
            break
        named = _TASK.search(line)
        if named and named[1] in missing:
            missing.remove(named[1])
            found[TaskId(named[1].decode())] = _record(folder, line)
    return found


def tally(folder: Path, action: Action) -> dict[tuple[str, str], Tally]:
    """Add up what records of an action are about, by data set and by who was told; a part that is not named is empty."""
    sums: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for line in _Sieve(folder, Selection(actions=frozenset({action}))).lines():
        dataset, parties = _DATASET.search(line), _PARTIES.search(line)
        for party in parties[1].decode().split(",") if parties else [""]:
            one = sums[dataset[1].decode() if dataset else "", party.strip('"')]
            one.records += 1
            one.bytes += _number(_BYTES.search(line))
            one.things += _number(_COUNT.search(line))
    return dict(sums)


class _Sieve:
    """Tells which lines are wanted by the bytes in them, and parses those of which the bytes do not tell enough."""

    def __init__(self, folder: Path, wanted: Selection) -> None:
        self._folder, self._wanted = folder, wanted
        self._any = [_token("action", action) for action in sorted(wanted.actions or ())]
        self._nothing = wanted.actions is not None and not self._any
        self._all = [_token(name, value) for name, value in wanted.exact().items()]
        parts = {name: getattr(wanted, name).lower() for name in _PARTS if getattr(wanted, name)}
        self._plain = {_PARTS[name]: part.encode() for name, part in parts.items() if _PLAIN.fullmatch(part)}
        self._parsed = len(self._plain) != len(parts)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are wanted, the newest first."""
        if not self._nothing:
            yield from filter(self._takes, _backwards(self._folder))

    def _takes(self, line: bytes) -> bool:
        if self._any and not any(token in line for token in self._any):
            return False
        if not all(token in line for token in self._all) or not self._in_time(line):
            return False
        if self._parsed or (self._plain and b"\\" in line):
            return self._wanted.takes(_record(self._folder, line))
        if not self._plain:
            return True
        low = line.lower()
        return all(
            part in low and any(part in value for value in _values(field, low))
            for field, part in self._plain.items()
        )

    def _in_time(self, line: bytes) -> bool:
        since, until = self._wanted.since, self._wanted.until
        if since is None and until is None:
            return True
        found = _AT.search(line)
        at = float(found[1]) if found else 0.0
        return (since is None or at >= since) and (until is None or at < until)


def _backwards(folder: Path) -> Iterator[bytes]:
    """Yield the whole lines of a log, the newest first; what is behind the last of them is still being written."""
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        *lines, _ = path.read_bytes().split(b"\n")
        yield from reversed(lines)


def _token(name: str, value: str) -> bytes:
    return f"{json.dumps(name)}:{json.dumps(value)}".encode("ascii")


def _values(field: re.Pattern[bytes], line: bytes) -> Iterator[bytes]:
    return (found[found.lastindex or 0] for found in field.finditer(line))


def _number(found: re.Match[bytes] | None) -> int:
    return int(found[1]) if found else 0


def _record(folder: Path, line: bytes) -> Record:
    try:
        return Record.model_validate_json(line)
    except ValidationError as error:
        raise AuditBrokenError(path=folder, reason="a record cannot be read") from error
