"""Record what the people of a node decided about training plans; a plan is known by the hash of its source."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from common.errors import AmbiguousPlanError, NoSuchPlanError, PlanHashError, TooManyPlansError
from common.ids import Digest
from common.messages import PlanState
from common.sqlite import transaction
from common.training_plans.source import plan_hash
from node.argument_limits import Limit
from node.database import open_registry

PENDING_PLANS: Final = 20
"""Most plans of one researcher that wait for a decision; more would bury the person who is to read them."""

Decision = Literal[PlanState.APPROVED, PlanState.REJECTED]


@dataclass(frozen=True, slots=True)
class Plan:
    """One training plan, and what was decided about it."""

    plan_hash: Digest
    name: str
    source: str = field(repr=False)
    state: PlanState
    requested_by: str
    request_note: str
    requested_at: float
    decided_by: str | None
    decision_note: str
    decided_at: float | None
    limits: tuple[Limit, ...] = ()
    """What its arguments are bound to; decided together with the approval."""


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """One step in the life of a plan: asked for (pending), approved or rejected."""

    plan_hash: Digest
    state: PlanState
    actor: str
    note: str
    at: float
    limits: tuple[Limit, ...] = ()
    name: str = ""
    """Class name of the plan."""


Witness = Callable[[Plan], None]
"""Told of a step before it counts; the step is not taken if that raises."""


def _nobody(_: Plan) -> None:
    pass


class Approvals:
    """The plans of one node, on disk, in the same file as its data sets.

    Several processes may use the same file at once; each change is atomic and on disk when the call returns. Nothing is
    ever forgotten: `history` tells every step. One thread at a time may use an instance.
    """

    def __init__(self, path: Path) -> None:
        """Open the registry database, making it if there is none.

        Raises:
            StorageError: If the file cannot be used; see `common.sqlite.open_database`.
        """
        self._db = open_registry(path)

    def request(
        self,
        *,
        name: str,
        announced: Digest,
        source: str,
        by: str,
        note: str = "",
        witness: Witness = _nobody,
    ) -> Plan:
        """Put a plan before the people of the node; asking again changes nothing, above all no decision.

        Args:
            name: Class name of the plan.
            announced: The hash that the researcher gave.
            source: The plan's source.
            by: Who asks.
            note: Why.
            witness: Told of a plan that is new.

        Returns:
            The plan as it stands now.

        Raises:
            PlanHashError: If the source has another hash.
            TooManyPlansError: If `PENDING_PLANS` of the same party wait already.
        """
        actual = plan_hash(source)
        if actual != announced:
            raise PlanHashError(actual=actual, expected=announced)
        self._propose(actual, name, source, by, note, witness, most=PENDING_PLANS)
        return self.get(actual)

    def approve_source(
        self,
        source: str,
        *,
        name: str,
        by: str,
        note: str = "",
        limits: Iterable[Limit] = (),
        witness: Witness = _nobody,
    ) -> Plan:
        """Approve a plan that the people of the node hold as a file; nobody needs to have asked.

        Returns:
            The plan, approved.
        """
        known = plan_hash(source)
        self._propose(known, name, source, by, note, _nobody)
        return self.decide(known, PlanState.APPROVED, by=by, note=note, limits=limits, witness=witness)

    def decide(
        self,
        known: Digest,
        state: Decision,
        *,
        by: str,
        note: str = "",
        limits: Iterable[Limit] = (),
        witness: Witness = _nobody,
    ) -> Plan:
        """Approve or reject a plan; a later decision, limits included, replaces an earlier one.

        Args:
            known: Its whole hash.
            state: The decision.
            by: Who decides.
            note: Why; researchers see it.
            limits: What the arguments of the plan are bound to.
            witness: Told of the plan as it is then.

        Returns:
            The plan as it stands now.

        Raises:
            NoSuchPlanError: If it is not known.
        """
        now, bound = time.time(), json.dumps([str(limit) for limit in limits])
        with transaction(self._db):
            changed = self._db.execute(
                "UPDATE plan SET state = ?, decided_by = ?, decision_note = ?, decided_at = ?, limits = ?"
                " WHERE plan_hash = ?",
                (state, by, note, now, bound, known),
            ).rowcount
            if not changed:
                raise NoSuchPlanError(plan=known)
            self._record(known, state, by, note, now, bound)
            witness(self.get(known))
        return self.get(known)

    def state(self, known: str) -> PlanState:
        """Return what was decided about a plan, `UNKNOWN` if nobody asked."""
        return self.standing(known)[0]

    def standing(self, known: str) -> tuple[PlanState, tuple[Limit, ...]]:
        """Return what was decided about a plan, `UNKNOWN` if nobody asked, and the limits on its arguments."""
        row = self._db.execute("SELECT state, limits FROM plan WHERE plan_hash = ?", (known,)).fetchone()
        return (PlanState.UNKNOWN, ()) if row is None else (PlanState(row["state"]), _limits(row["limits"]))

    def get(self, known: str) -> Plan:
        """Return the plan with this hash.

        Raises:
            NoSuchPlanError: If it is not known.
        """
        row = self._db.execute("SELECT * FROM plan WHERE plan_hash = ?", (known,)).fetchone()
        if row is None:
            raise NoSuchPlanError(plan=known)
        return _plan(row)

    def find(self, prefix: str) -> Plan:
        """Return the one plan whose hash starts like this.

        Raises:
            NoSuchPlanError: If there is none.
            AmbiguousPlanError: If there are several.
        """
        found = [plan for plan in self.list() if prefix and plan.plan_hash.startswith(prefix.lower())]
        if not found:
            raise NoSuchPlanError(plan=prefix)
        if len(found) > 1:
            raise AmbiguousPlanError(prefix=prefix, hashes=", ".join(plan.plan_hash[:12] for plan in found))
        return found[0]

    def list(self) -> tuple[Plan, ...]:
        """Return all plans, the latest request first."""
        rows = self._db.execute("SELECT * FROM plan ORDER BY requested_at DESC, plan_hash")
        return tuple(_plan(row) for row in rows)

    def approved_before(self, plan: Plan) -> Plan | None:
        """Return the other plan of the same name that was approved last, or None if there is none."""
        row = self._db.execute(
            "SELECT * FROM plan WHERE name = ? AND plan_hash != ? AND state = ? ORDER BY decided_at DESC LIMIT 1",
            (plan.name, plan.plan_hash, PlanState.APPROVED),
        ).fetchone()
        return None if row is None else _plan(row)

    def history(self, known: str) -> tuple[PlanEvent, ...]:
        """Return every step in the life of a plan, oldest first."""
        return self._events("WHERE plan_hash = ?", known)

    def decisions(self) -> tuple[PlanEvent, ...]:
        """Return every step in the life of every plan, the latest first."""
        return self._events()[::-1]

    def close(self) -> None:
        """Close the database; idempotent."""
        self._db.close()

    def _events(self, where: str = "", *values: str) -> tuple[PlanEvent, ...]:
        rows = self._db.execute(
            f"SELECT plan_event.*, name FROM plan_event JOIN plan USING (plan_hash) {where} ORDER BY plan_event_id",  # noqa: S608 - a text of ours
            values,
        )
        return tuple(
            PlanEvent(
                Digest(row["plan_hash"]),
                PlanState(row["state"]),
                row["actor"],
                row["note"],
                row["at"],
                _limits(row["limits"]),
                row["name"],
            )
            for row in rows
        )

    def _propose(
        self,
        known: Digest,
        name: str,
        source: str,
        by: str,
        note: str,
        witness: Witness,
        *,
        most: int | None = None,
    ) -> None:
        """Record a plan as pending unless it is known."""
        now = time.time()
        with transaction(self._db):
            if most is not None and self.state(known) is PlanState.UNKNOWN:
                self._check_room(by, most)
            added = self._db.execute(
                "INSERT OR IGNORE INTO plan (plan_hash, name, source, state, requested_by, request_note, requested_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (known, name, source, PlanState.PENDING, by, note, now),
            ).rowcount
            if added:
                self._record(known, PlanState.PENDING, by, note, now)
                witness(self.get(known))

    def _check_room(self, by: str, most: int) -> None:
        query = "SELECT count(*) FROM plan WHERE requested_by = ? AND state = ?"
        pending = int(self._db.execute(query, (by, PlanState.PENDING)).fetchone()[0])
        if pending >= most:
            raise TooManyPlansError(pending=pending, researcher=by)

    def _record(
        self, known: Digest, state: PlanState, actor: str, note: str, at: float, limits: str = "[]"
    ) -> None:
        self._db.execute(
            "INSERT INTO plan_event (plan_hash, state, actor, note, at, limits) VALUES (?, ?, ?, ?, ?, ?)",
            (known, state, actor, note, at, limits),
        )


def _plan(row: sqlite3.Row) -> Plan:
    """Return the plan of a row."""
    return Plan(
        plan_hash=Digest(row["plan_hash"]),
        name=row["name"],
        source=row["source"],
        state=PlanState(row["state"]),
        requested_by=row["requested_by"],
        request_note=row["request_note"],
        requested_at=row["requested_at"],
        decided_by=row["decided_by"],
        decision_note=row["decision_note"],
        decided_at=row["decided_at"],
        limits=_limits(row["limits"]),
    )


def _limits(texts: str) -> tuple[Limit, ...]:
    return tuple(Limit.parse(text) for text in json.loads(texts))
