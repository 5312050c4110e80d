"""Spare workers torch's compiler until a plan asks for it.

Every optimizer of torch imports `torch._dynamo` at its first step, only to tell a compiler that is not running where not to look:
that is half of the CPU time of starting a worker (2.2 of 4.6 s) and 71 of its 297 MB (torch 2.13). This puts a stand-in there that gives those
two answers itself and becomes the real module as soon as anything else is asked of it.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, Final

_NAME: Final = "torch._dynamo"


class _StandIn(types.ModuleType):
    """Answers what eager training asks; anything else loads the compiler."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Do nothing, as the real one does while nothing is being compiled."""

    @staticmethod
    def disable(fn: Callable[..., Any] | None = None, *_args: Any, **_options: Any) -> Any:
        """Return the function as it is: nothing compiles it here."""
        return fn if fn is not None else lambda one: one

    def __getattr__(self, name: str) -> Any:
        if name == "__file__":  # the module inspect asks every module for it
            raise AttributeError(name)
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
            vars(sys.modules["torch"])["_dynamo"] = importlib.import_module(_NAME)
        return getattr(sys.modules[_NAME], name)


def spare_compiler() -> None:
    """Put the stand-in where torch looks, unless the compiler is loaded already."""
    if _NAME not in sys.modules:
        stand_in = _StandIn(_NAME)
        sys.modules[_NAME] = stand_in
        vars(importlib.import_module("torch"))["_dynamo"] = stand_in
