"""Encode a file of tensors into another file, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from common.errors import InvalidTensorsError
from common.payload.blocks import BlockFile, Doubles, from_doubles, to_doubles
from common.payload.encodings.choice import Encoding
from common.payload.encodings.forms import LARGEST, SPAN, Form, form_of
from common.payload.encodings.note import EncodingNote
from common.payload.encodings.writer import BlockWriter, Kind, WrittenFile
from common.payload.header import ITEM_BYTES, Content, TensorEntry

SMALL_ELEMENTS: Final = 1024
"""Tensors with fewer elements are never encoded: a longer header would eat the gain."""

_RUN_ELEMENTS: Final = 4 * SPAN
_LONGEST_NAME: Final = 480
"""Longer names leave no room for the suffix of a part."""


def encode_model(source: Content, target: Path, encoding: Encoding) -> WrittenFile:
    """Encode a global model by its values, as `encoding.of_models` says; compression is another step.

    Args:
        source: A safetensors file, as it is, or its bytes; stays.
        target: Where to write; the file appears whole or not at all.
        encoding: That of the experiment.

    Raises:
        InvalidTensorsError: If the source is not valid safetensors, or has too many tensors.
        DiskFullError: If there is no space; nothing is left behind.
    """
    with ExitStack() as stack:
        change = _Change(stack.enter_context(BlockFile(source)), base=None, residual=None)
        return _encode(stack, change, encoding.of_models, target, residual_to=None)


def encode_update(
    source: Path,
    target: Path,
    encoding: Encoding,
    *,
    base: Content,
    residual: Path | None = None,
    residual_to: Path | None = None,
) -> WrittenFile:
    """Encode a trained model by its change to the global model, plus what the last update left out.

    The same files give the same bytes. Integers, small tensors, tensors with numbers that are not finite or do not fit the
    encoding, and those that would not get smaller are written as they are. What the other side will read from the target, less the
    base, plus the new residual, is the change plus the old residual, up to the rounding of the residual to F32 (F64 for F64).

    Args:
        source: The trained model, a safetensors file as it is; stays.
        target: Where to write; the file appears whole or not at all, and after the new residual.
        encoding: That of the experiment; compression is another step.
        base: The global model that training started from, as the node read it, decoded.
        residual: What the last update of this run left out; none if there is none.
        residual_to: Where to write what this one leaves out, if `encoding.feeds_back`; another file than `residual`, so that
            an interrupted task can be repeated from where it was. None if it is to be forgotten.

    Raises:
        InvalidTensorsError: If a file is not valid safetensors or has too many tensors, or the residual does not fit the source.
        DiskFullError: If there is no space; no target is left behind.
    """
    with ExitStack() as stack:
        change = _Change(
            stack.enter_context(BlockFile(source)),
            stack.enter_context(BlockFile(base)),
            stack.enter_context(BlockFile(residual)) if residual and encoding.feeds_back else None,
        )
        kept = residual_to if encoding.feeds_back else None
        return _encode(stack, change, encoding, target, residual_to=kept)


class _Change:
    """What is to be encoded: source - base + residual, where base and residual may be missing."""

    def __init__(self, source: BlockFile, base: BlockFile | None, residual: BlockFile | None) -> None:
        self.source = source
        self.base = base
        self.residual = residual
        for name, entry in residual.index.items() if residual else ():
            fitting = source.index.get(name)
            if fitting is None or (entry.dtype, entry.shape) != _residual_kind(fitting):
                raise InvalidTensorsError(reason=f"residual {name!r} does not fit the model")

    def read(self, name: str, first: int, count: int) -> tuple[Doubles, Doubles]:
        """Return the numbers to encode and those of the base."""
        numbers, ground = self._doubles(self.source, name, first, count), np.zeros(count)
        if self.base is not None:
            ground = self._doubles(self.base, name, first, count)
            numbers -= ground
        if self.residual is not None and name in self.residual.index:
            numbers += self._doubles(self.residual, name, first, count)
        return numbers, ground

    def peak(self, name: str, form: Form) -> float | None:
        """Return the largest magnitude to encode; none if a number is not finite or would not fit."""
        entry = self.source.index[name]
        peak = reach = 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            for first, count in _runs(entry):
                numbers, ground = self.read(name, first, count)
                ground += numbers
                highest, farthest = _magnitude(numbers), _magnitude(ground)
                if not np.isfinite(highest + farthest):
                    return None
                peak, reach = max(peak, highest), max(reach, farthest)
        # no form errs by more than the peak, so what is read from it stays finite
        return peak if peak <= form.largest and reach + peak <= LARGEST[entry.dtype] else None

    def comparable(self, name: str) -> bool:
        """Tell whether the base has such a tensor; if not, the gate should see the tensor as it is."""
        entry = self.source.index[name]
        other = self.base.index.get(name) if self.base else entry
        return other is not None and (other.dtype, other.shape) == (entry.dtype, entry.shape)

    @staticmethod
    def _doubles(file: BlockFile, name: str, first: int, count: int) -> Doubles:
        return to_doubles(file.read(name, first, count), file.index[name].dtype)


def _encode(
    stack: ExitStack, change: _Change, encoding: Encoding, target: Path, *, residual_to: Path | None
) -> WrittenFile:
    index = change.source.index
    form = None if encoding.name == "raw" else form_of(encoding)
    peaks = _peaks(change, form) if form else {}
    out = stack.enter_context(_target(change, form, peaks, encoding, target))
    left = stack.enter_context(_remainder(change, peaks.keys(), residual_to)) if residual_to else None
    for name, entry in index.items():
        for first, count in _runs(entry):
            if form is None or name not in peaks:
                out.write(name, first, change.source.read(name, first, count))
                if left and change.residual and name in left.index:
                    left.write(name, first, change.residual.read(name, first, count))
                continue
            numbers, ground = change.read(name, first, count)
            parts = form.pack(numbers, peaks[name])
            for suffix, (start, _) in form.runs(first, count).items():
                out.write(name + suffix, start, parts[suffix])
            if left:
                read = from_doubles(ground + form.unpack(name, parts, count), entry.dtype)
                numbers -= to_doubles(read, entry.dtype) - ground
                left.write(name, first, from_doubles(numbers, left.index[name].dtype))
    if left:
        left.finish()
    return out.finish()


def _runs(entry: TensorEntry) -> Iterator[tuple[int, int]]:
    """Yield first element and number of elements of runs that a processor's cache holds, whole spans but for the last."""
    for first in range(0, entry.elements, _RUN_ELEMENTS):
        yield first, min(_RUN_ELEMENTS, entry.elements - first)


def _peaks(change: _Change, form: Form) -> dict[str, float]:
    """Return the largest magnitude of every tensor that is to be encoded."""
    index = change.source.index
    found = {
        name: change.peak(name, form)
        for name, entry in index.items()
        if _worth_it(name, entry, form)
        and change.comparable(name)
        and not any(name + suffix in index for suffix in form.kinds((), 1) if suffix)
    }
    return {name: peak for name, peak in found.items() if peak is not None}


def _worth_it(name: str, entry: TensorEntry, form: Form) -> bool:
    return (
        entry.dtype in LARGEST
        and entry.elements >= SMALL_ELEMENTS
        and form.bytes_per_element < ITEM_BYTES[entry.dtype]
        and len(name) <= _LONGEST_NAME
    )


def _target(
    change: _Change, form: Form | None, peaks: Mapping[str, float], encoding: Encoding, path: Path
) -> BlockWriter:
    index = change.source.index
    kinds = {name: (entry.dtype, entry.shape) for name, entry in index.items() if name not in peaks}
    if form is None or not peaks:
        return BlockWriter(path, kinds)
    for name in peaks:
        parts = form.kinds(index[name].shape, index[name].elements)
        kinds |= {name + suffix: kind for suffix, kind in parts.items()}
    note = EncodingNote.model_validate(
        {
            "encoding": encoding.form,
            "of": "change" if change.base else "value",
            "dtypes": {name: index[name].dtype for name in sorted(peaks)},
        }
    )
    return BlockWriter(path, kinds, note.metadata())


def _remainder(change: _Change, encoded: Set[str], path: Path) -> BlockWriter:
    """Open the new residual; a tensor that is not encoded this time keeps what it had."""
    names = encoded | (change.residual.index.keys() if change.residual else set())
    return BlockWriter(path, {name: _residual_kind(change.source.index[name]) for name in names})


def _magnitude(numbers: Doubles) -> float:
    return max(float(numbers.max()), -float(numbers.min()))


def _residual_kind(entry: TensorEntry) -> Kind:
    return ("F64" if entry.dtype == "F64" else "F32", entry.shape)
