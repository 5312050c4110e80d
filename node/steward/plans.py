"""What the people of a node do with training plans: read them, and decide."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.audit.log import AuditLog
from common.audit.record import Action, Entry
from common.errors import NoteTooLongError, PlanSourceError
from common.limits import PLAN_SOURCE_BYTES
from common.messages import PlanState
from node.approval import Approvals, Plan, PlanEvent
from node.argument_limits import parse_limits
from node.home import NodeHome
from node.plan_report import Remark, difference, report

NOTE_LENGTH: Final = 2000
"""Most characters of a note: researchers are told of it, and the audit log keeps it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a person should see before deciding about a plan.

    Attributes:
        plan: The plan, with its source.
        remarks: What to look at in the source; a hint, not a proof.
        before: The plan of the same name that was approved last, if there is another.
        difference: The lines in which the source differs from that one, in the unified form.
        history: Every step that was taken about it, oldest first.
    """

    plan: Plan
    remarks: tuple[Remark, ...]
    before: Plan | None
    difference: tuple[str, ...]
    history: tuple[PlanEvent, ...]


@dataclass(frozen=True, slots=True)
class Plans:
    """The training plans of a node, in the hands of one person.

    Attributes:
        home: The node.
        by: The name of the person, for researchers' eyes too.
    """

    home: NodeHome
    by: str

    def list(self) -> tuple[Plan, ...]:
        """Return all plans, the latest request first."""
        with self._approvals() as approvals:
            return approvals.list()

    def read(self, which: str) -> Reading:
        """Return a plan, given its hash or enough of its first characters.

        Raises:
            NoSuchPlanError: If there is none.
            AmbiguousPlanError: If there are several.
        """
        with self._approvals() as approvals:
            plan = approvals.find(which)
            before, history = approvals.approved_before(plan), approvals.history(plan.plan_hash)
        return Reading(plan, report(plan.source), before, _difference(before, plan), history)

    def decisions(self) -> tuple[PlanEvent, ...]:
        """Return every step that was taken about any plan, the latest first."""
        with self._approvals() as approvals:
            return approvals.decisions()

    def approve(self, which: str, *, note: str = "", limits: Iterable[str] = ()) -> Plan:
        """Let a plan run here, with limits only if its arguments keep to them; replaces an earlier decision.

        Raises:
            NoSuchPlanError: If there is none.
            AmbiguousPlanError: If there are several.
            InvalidLimitError: If a limit is none.
            NoteTooLongError: If the note is.
            AuditBrokenError: If it cannot be recorded; nothing was decided.
        """
        bounds, witness = parse_limits(limits), self._witness(note)
        with self._approvals() as approvals:
            known = approvals.find(which).plan_hash
            return approvals.decide(
                known, PlanState.APPROVED, by=self.by, note=note, limits=bounds, witness=witness
            )

    def approve_file(self, file: Path, *, note: str = "", limits: Iterable[str] = ()) -> Plan:
        """Let the plan in a file run here, which nobody needs to have asked for: the last class in it.

        Raises:
            PlanSourceError: If it cannot be read, is not Python or has no class.
            InvalidLimitError: If a limit is none.
            NoteTooLongError: If the note is.
            AuditBrokenError: If it cannot be recorded; nothing was decided.
        """
        try:
            source = file.read_text(encoding="utf-8")
        except OSError as error:
            raise PlanSourceError(plan=file, reason=error.strerror) from error
        except ValueError as error:
            raise PlanSourceError(plan=file, reason="it is not text") from error
        return self.approve_source(source, origin=str(file), note=note, limits=limits)

    def approve_source(self, source: str, *, origin: str, note: str = "", limits: Iterable[str] = ()) -> Plan:
        """Let a plan run here, given its text; nobody needs to have asked for it: the last class in it.

        Args:
            source: The text.
            origin: Where it comes from, for errors.
            note: Why; researchers see it.
            limits: What its arguments are bound to.

        Raises:
            PlanSourceError: If it is too long, is not Python or has no class.
            InvalidLimitError: If a limit is none.
            NoteTooLongError: If the note is.
            AuditBrokenError: If it cannot be recorded; nothing was decided.
        """
        bounds, witness = parse_limits(limits), self._witness(note)
        name = _plan_in(source, origin)
        with self._approvals() as approvals:
            return approvals.approve_source(
                source, name=name, by=self.by, note=note, limits=bounds, witness=witness
            )

    def reject(self, which: str, *, note: str = "") -> Plan:
        """Forbid a plan to run here; this also revokes an approval, from the next task on.

        Raises:
            NoSuchPlanError: If there is none.
            AmbiguousPlanError: If there are several.
            NoteTooLongError: If the note is.
            AuditBrokenError: If it cannot be recorded; nothing was decided.
        """
        witness = self._witness(note)
        with self._approvals() as approvals:
            known = approvals.find(which).plan_hash
            return approvals.decide(known, PlanState.REJECTED, by=self.by, note=note, witness=witness)

    @contextmanager
    def _approvals(self) -> Iterator[Approvals]:
        approvals = Approvals(self.home.registry_path)
        try:
            yield approvals
        finally:
            approvals.close()

    def _witness(self, note: str) -> Callable[[Plan], None]:
        """Return what records a decision with this note, and its limits, before it counts."""
        if len(note) > NOTE_LENGTH:
            raise NoteTooLongError(length=len(note), most=NOTE_LENGTH)
        audit: AuditLog = self.home.audit()
        return lambda plan: audit.append(_entry(plan))


def _entry(plan: Plan) -> Entry:
    approved = plan.state is PlanState.APPROVED
    return Entry(
        action=Action.PLAN_APPROVED if approved else Action.PLAN_REJECTED,
        actor=f"person {plan.decided_by}",
        plan_name=plan.name,
        plan_hash=plan.plan_hash,
        note="; ".join(filter(None, [plan.decision_note, ", ".join(map(str, plan.limits))]))[:2000] or None,
    )


def _difference(before: Plan | None, plan: Plan) -> tuple[str, ...]:
    """Return how a plan differs from another of its name."""
    if before is None:
        return ()
    names = (f"{one.name} {one.plan_hash[:12]}" for one in (before, plan))
    return tuple(difference(before.source, plan.source, before_name=next(names), after_name=next(names)))


def _plan_in(source: str, origin: str) -> str:
    """Return the name of the last class in a source, which is the plan."""
    if len(source.encode("utf-8", "surrogatepass")) > PLAN_SOURCE_BYTES:
        raise PlanSourceError(plan=origin, reason=f"it is longer than {PLAN_SOURCE_BYTES} bytes")
    try:
        classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise PlanSourceError(plan=origin, reason="it is not Python") from error
    if not classes:
        raise PlanSourceError(plan=origin, reason="it defines no class")
    return classes[-1]
