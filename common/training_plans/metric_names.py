"""Tell which names the metrics of a plan may have; a name could carry data, so both sides hold it against the plan's source."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Final, get_args

from common.training_args import Metric

_OWN_NAMES: Final = frozenset({"loss", "Custom", "Custom_", "C_INDEX", *get_args(Metric)})
_NUMBER: Final = re.compile(r"(?<!\d)\d{1,3}(?!\d)")
_NUMBERS: Final = 2
"""A name may be numbered, by class or by layer."""


def is_declared(name: str, source: str) -> bool:
    """Tell whether a metric has a name of ours, or one that texts in a plan's source spell out, save for two small numbers.

    Args:
        name: What the metric is called.
        source: The plan; one that is no Python declares nothing. It is not run.
    """
    if name in _OWN_NAMES:
        return True
    declared, pieces = _texts(source), _NUMBER.split(name)
    known = all(piece == "" or piece in declared or piece in _OWN_NAMES for piece in pieces)
    return known and len(pieces) <= _NUMBERS + 1 and any(pieces)


@lru_cache(maxsize=16)
def _texts(source: str) -> frozenset[str]:
    """Return the texts that a plan's source holds, without numbers in them."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return frozenset(piece for text in texts for piece in _NUMBER.split(text))
