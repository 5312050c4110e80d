"""Keep data-loading plans: named options with which the sets of one family are read, to be used again for the next set.

A hospital that calls its modalities `T1_MPR` and `FLAIR_3D` says so once, under a name, and every set from that scanner is registered
with it. A set keeps a copy of the options and the name of the plan, so what a set was registered with never changes by itself.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from common.datasets.families import DATA_TYPES, family
from common.datasets.families.base import parsed
from common.errors import InvalidLoadingPlanError, LoadingPlanInUseError, NoSuchLoadingPlanError
from common.sqlite import transaction
from node.database import open_registry

OF_ONE_SET: Final = frozenset({"leave_out", "broken"})
"""Options that name samples, and so belong to one set."""

_LENGTHS: Final = {"name": (3, 200), "description": (0, 2000)}


@dataclass(frozen=True, slots=True)
class LoadingPlan:
    """Named options.

    Attributes:
        name: Its name, unique at the node.
        data_type: The family whose options they are.
        options: Those that differ from the defaults.
        description: For people.
        saved_by: The person who saved it.
        saved_at: Unix time of that.
    """

    name: str
    data_type: str
    options: Mapping[str, JsonValue]
    description: str
    saved_by: str
    saved_at: float

    @classmethod
    def of(
        cls, name: str, data_type: str, options: Mapping[str, JsonValue], description: str, *, by: str
    ) -> LoadingPlan:
        """Return a new plan, if it keeps every rule.

        Raises:
            InvalidLoadingPlanError: If name, description or type break one, or an option belongs to one set.
            InvalidDatasetError: If an option is unknown or has a wrong value; names every mistake.
            MissingExtraError: If the library for that type is not installed.
        """
        name, description = name.strip(), description.strip()
        problems = [
            f"its {what} needs {least} to {most} characters"
            for what, text in (("name", name), ("description", description))
            for least, most in [_LENGTHS[what]]
            if not least <= len(text) <= most
        ]
        problems += [f"{option} belongs to one data set" for option in sorted(OF_ONE_SET & options.keys())]
        if data_type not in DATA_TYPES:
            problems.append(f"type {data_type!r} is none of {', '.join(DATA_TYPES)}")
        if problems:
            raise InvalidLoadingPlanError(name=name, reason="; ".join(problems))
        parsed(family(data_type).options, options)
        return cls(name, data_type, dict(options), description, by, time.time())

    def made(self, data_type: str, parameters: Mapping[str, JsonValue]) -> bool:
        """Tell whether the options of a set are still those of this plan, whatever else they say."""
        return self.data_type == data_type and self.options.items() <= dict(parameters).items()


class LoadingPlans:
    """The data-loading plans of one node, in the same file as its data sets.

    Several processes may use the file at once; each change is atomic and on disk when the call returns. One thread at a time may use
    an instance.
    """

    def __init__(self, path: Path) -> None:
        """Open the registry database, making it if there is none.

        Raises:
            StorageError: If the file cannot be used; see `common.sqlite.open_database`.
        """
        self._db = open_registry(path)

    def save(self, plan: LoadingPlan, *, witness: Callable[[], None] = lambda: None) -> None:
        """Keep a plan; nothing is kept if the witness raises.

        Raises:
            InvalidLoadingPlanError: If the name is taken: sets may have been registered with that plan.
        """
        with transaction(self._db):
            taken = self._db.execute("SELECT 1 FROM loading_plan WHERE name = ?", (plan.name,)).fetchone()
            if taken is not None:
                raise InvalidLoadingPlanError(name=plan.name, reason="the name is taken")
            self._db.execute(
                "INSERT INTO loading_plan (name, data_type, options, description, saved_by, saved_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    plan.name,
                    plan.data_type,
                    json.dumps(plan.options),
                    plan.description,
                    plan.saved_by,
                    plan.saved_at,
                ),
            )
            witness()

    def find(self, name: str) -> LoadingPlan:
        """Return the plan of this name.

        Raises:
            NoSuchLoadingPlanError: If there is none.
        """
        row = self._db.execute("SELECT * FROM loading_plan WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NoSuchLoadingPlanError(name=name)
        return _plan(row)

    def list(self) -> tuple[LoadingPlan, ...]:
        """Return all plans, in the order of their names."""
        return tuple(_plan(row) for row in self._db.execute("SELECT * FROM loading_plan ORDER BY name"))

    def users(self, name: str) -> tuple[str, ...]:
        """Return the names of the data sets whose options a plan made."""
        rows = self._db.execute("SELECT name FROM dataset WHERE loading = ? ORDER BY name", (name,))
        return tuple(row["name"] for row in rows)

    def remove(self, name: str, *, witness: Callable[[], None] = lambda: None) -> None:
        """Forget a plan; nothing is forgotten if the witness raises.

        Raises:
            NoSuchLoadingPlanError: If there is none of that name.
            LoadingPlanInUseError: If data sets were registered with it; names them.
        """
        with transaction(self._db):
            self.find(name)
            if users := self.users(name):
                raise LoadingPlanInUseError(name=name, datasets=", ".join(users))
            self._db.execute("DELETE FROM loading_plan WHERE name = ?", (name,))
            witness()

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()


def _plan(row: sqlite3.Row) -> LoadingPlan:
    return LoadingPlan(
        name=row["name"],
        data_type=row["data_type"],
        options=json.loads(row["options"]),
        description=row["description"],
        saved_by=row["saved_by"],
        saved_at=row["saved_at"],
    )
