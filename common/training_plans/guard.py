"""Tell a plan's own mistakes from ours, and where in the plan they are."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from common.errors import PlanContractError, PlanFailedError, WarrenError


@dataclass(frozen=True, slots=True)
class Blame:
    """A line of a plan that an error went through."""

    line: int
    where: str


def blame(error: BaseException, module: str) -> Blame | None:
    """Return the innermost line of a module that an error went through, if any."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == module:
            found = Blame(trace.tb_lineno, trace.tb_frame.f_code.co_qualname)
        trace = trace.tb_next
    return found


def plan_failed(error: BaseException, module: str) -> PlanFailedError | None:
    """Return what may be told about an error that a line of a plan's module led to: its type and line, never its text.

    None if no line of the module has to do with it.
    """
    found = blame(error, module)
    if found is None:
        return None
    where = "the module itself" if found.where == "<module>" else found.where
    return PlanFailedError(error_type=_public_type(error, module), line=found.line, where=where)


class PlanCode:
    """Run lines of a plan and turn whatever they raise into a typed error.

    `with PlanCode(type(plan), "training_data"): plan.training_data()`. Typed errors pass as they are. SystemExit counts as a
    mistake of the plan; KeyboardInterrupt passes. An error that no line of the plan has to do with is laid at the door of
    the named method; without a name it passes as it is.
    """

    __slots__ = ("_method", "_plan")

    def __init__(self, plan: type, method: str | None = None) -> None:
        self._plan = plan
        self._method = method

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if isinstance(error, (Exception, SystemExit)) and not isinstance(error, WarrenError):
            if (failed := plan_failed(error, self._plan.__module__)) is not None:
                raise failed from error
            if self._method is not None:
                problem = f"led to {type(error).__name__} outside its own lines"
                raise PlanContractError(
                    plan=self._plan.__name__, method=self._method, problem=problem
                ) from error
        return False


def _public_type(error: BaseException, module: str) -> str:
    """Return the name of the nearest class that the plan did not make itself: a made-up name could carry data."""
    for kind in type(error).__mro__:
        home = sys.modules.get(kind.__module__)
        name = kind.__name__
        if kind.__module__ != module and getattr(home, name, None) is kind:
            return name
    return "BaseException"
