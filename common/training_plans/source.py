"""Turn a training plan into text, name the text by its hash, and make a class of it again."""

from __future__ import annotations

import functools
import hashlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from common.errors import PlanContractError, PlanHashError, PlanSourceError, WarrenError
from common.ids import Digest
from common.limits import PLAN_SOURCE_BYTES
from common.training_plans.base import TrainingPlan
from common.training_plans.collection import collect
from common.training_plans.guard import plan_failed

_BLANKS: Final = " \t"
_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def canonical_source(source: str) -> str:
    """Return the one form of a source that is hashed, shown to people and run.

    Lines end in LF, blanks and tabs at their ends are gone, and so are empty lines at the end of the text. Nothing else
    changes: not the order of code points, no encoding cookie is obeyed, and no parser is asked, so the form is the same on every
    version of Python.
    """
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip(_BLANKS) for line in lines).rstrip("\n") + "\n"


@functools.lru_cache(maxsize=16)
def plan_hash(source: str) -> Digest:
    """Return the SHA-256 of the canonical form of a plan's source, as UTF-8.

    Raises:
        PlanSourceError: If the text cannot be written as UTF-8.
    """
    try:
        text = canonical_source(source).encode()
    except UnicodeEncodeError as error:
        raise PlanSourceError(plan="the plan", reason="it holds a lone surrogate") from error
    return Digest(hashlib.sha256(text).hexdigest())


def plan_source(plan: type[TrainingPlan]) -> str:
    """Return a self-contained source of a class defined in a script, a module or a notebook.

    It holds the class, the lines of its `init_dependencies`, and whatever the class uses from the file around it: modules and
    what libraries define as imports, functions and classes of the same file or notebook as text, plain constants as
    literals. The same class gives the same text.

    Raises:
        PlanSourceError: If something the class uses cannot be written down; names it.
        PlanContractError: If a required method is missing.
    """
    _check_complete(plan)
    source = canonical_source(collect(plan))
    if (size := len(source.encode())) > PLAN_SOURCE_BYTES:
        raise PlanSourceError(
            plan=plan.__name__, reason=f"its {size} bytes are more than {PLAN_SOURCE_BYTES}"
        )
    return source


def load_plan(source: Path | str, class_name: str, expected: Digest) -> type[TrainingPlan]:
    """Run a plan's source as a module of its own and return the plan's class.

    Args:
        source: The text, or the file that holds it.
        class_name: The class to return.
        expected: The hash of the source; nothing runs if it differs.

    Raises:
        PlanHashError: If the source has another hash.
        PlanSourceError: If it is not Python, or does not define the class as a training plan.
        PlanContractError: If a required method is missing.
        PlanFailedError: If its lines outside of functions raise.
    """
    text = canonical_source(_read(source, class_name) if isinstance(source, Path) else source)
    if (actual := plan_hash(text)) != expected:
        raise PlanHashError(actual=actual, expected=expected)
    name = f"warren_plan_{expected[:16]}"
    path = source if isinstance(source, Path) else Path(f"{name}.py")
    module = _run(_PlanLoader(name, path, text), class_name)
    plan = vars(module).get(class_name)
    if not isinstance(plan, type) or plan.__module__ != name:
        raise PlanSourceError(plan=class_name, reason="it does not define a class of this name")
    _check_complete(plan)
    return plan


class _PlanLoader(importlib.abc.ExecutionLoader):
    """Gives the import system a text that is already decoded: an encoding cookie cannot make it mean anything else."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self._path = path
        self._text = text

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - the import system passes it
        """Return the text; tracebacks show its lines from here."""
        return self._text

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - the import system passes it
        """Return where the text came from."""
        return str(self._path)


def _run(loader: _PlanLoader, plan: str) -> ModuleType:
    """Return the module that a loader makes."""
    try:
        loader.get_code(loader.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise PlanSourceError(plan=plan, reason=f"line {line} is not Python {_PYTHON}") from error
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None  # noqa: S101 - a given loader always makes one
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses, and whoever pickles, look their module up
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[loader.name]
        if isinstance(error, WarrenError) or (failed := plan_failed(error, loader.name)) is None:
            raise
        raise failed from error
    return module


def _read(path: Path, plan: str) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanSourceError(plan=plan, reason="its file cannot be read as UTF-8") from error


def _check_complete(plan: type[TrainingPlan]) -> None:
    if not issubclass(plan, TrainingPlan):
        raise PlanSourceError(plan=plan.__name__, reason="it is no TrainingPlan")
    if missing := sorted(plan.__abstractmethods__):
        raise PlanContractError(plan=plan.__name__, method=missing[0], problem="is missing")
