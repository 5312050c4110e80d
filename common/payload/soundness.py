"""Say whether an update may be believed: the tensors of its model, with finite numbers, not absurdly far from it.

Both sides ask: a node before an update leaves it, a researcher before an update comes near the global model. Names, shapes,
dtypes and numbers are those that an update stands for, however it is encoded. What is wrong is said in words that both sides know
already: who made the update could put data into its names and numbers.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from common.payload.blocks import Array, BlockFile, Layout, blocks, finite, to_doubles
from common.payload.carried import is_carried
from common.payload.encodings.choice import Encoding
from common.payload.encodings.decoder import DecodedFile
from common.payload.header import Content, TensorIndex

Readable = BlockFile | DecodedFile

_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16"})


def unsound(
    content: Content, model: Content, encoding: Encoding, *, layout: Layout | None = None, norm_limit: float
) -> str | None:
    """Return what is wrong with an update, in words that hold nothing of its own, or None.

    Args:
        content: The update, not compressed.
        model: The global model that it started from, not encoded; what it carries beside that is no part of it.
        encoding: How the update is to be encoded.
        layout: Where the tensors of the model lie, if that is known.
        norm_limit: Largest Euclidean norm of the change of all tensors of floating point numbers together.

    Raises:
        InvalidTensorsError: If one of the files is not valid.
    """
    with BlockFile(model, layout) as base, _opened(content, model, base.layout, encoding) as update:
        return (
            _misencoding(update, encoding)
            or _misfit(update.index, base.index)
            or _wild(update, base, norm_limit)
        )


def _opened(content: Content, model: Content, layout: Layout, encoding: Encoding) -> Readable:
    return BlockFile(content, layout) if encoding.name == "raw" else DecodedFile(content, model)


def _misencoding(update: Readable, encoding: Encoding) -> str | None:
    if isinstance(update, DecodedFile) and update.encoding not in (None, encoding.form):
        return f"its tensors are encoded as {update.encoding} instead of {encoding.form}"
    return None


def _misfit(update: TensorIndex, model: TensorIndex) -> str | None:
    if update is model:
        return None
    expected = {name: entry for name, entry in model.items() if not is_carried(name)}
    missing, extra = expected.keys() - update.keys(), update.keys() - expected.keys()
    if missing:
        return f"it lacks {_some(missing)}"
    if extra:
        return "it has tensors that the model does not have"
    for name, entry in expected.items():
        if update[name].shape != entry.shape:
            return f"{name} does not have the shape {entry.shape}"
        if update[name].dtype != entry.dtype:
            return f"{name} does not have the dtype {entry.dtype}"
    return None


def _wild(update: Readable, base: BlockFile, limit: float) -> str | None:
    """Return which tensor holds a number that is not finite, or that the change is too large."""
    squares = 0.0
    for name, entry in update.index.items():
        if entry.dtype not in _FLOATS:
            continue
        for block in blocks(entry):
            numbers, before = update.read(name, *block), base.read(name, *block)
            square = _square(numbers, before, entry.dtype)
            if not math.isfinite(square) and not finite(numbers, entry.dtype):
                return f"{name} holds a number that is not finite"
            squares += square
    norm = math.sqrt(squares)
    return None if norm <= limit else f"its change is larger than the norm {limit:.3g}"


def _square(numbers: Array, before: Array, dtype: str) -> float:
    """Return the squared norm of a change; it is finite if all numbers are, unless it is too large to be written down.

    float32 is summed as it is, three times as fast, and as float64 only if that does not suffice.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype == "F32":
            change = numbers - before
            if math.isfinite(square := float(np.dot(change, change))):
                return square
        change = to_doubles(numbers, dtype) - to_doubles(before, dtype)
        return float(np.dot(change, change))


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > len(shown) else "")
