"""Turn numbers into the parts of an encoded tensor and back: pure functions of blocks, exact to the bit on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from common.errors import InvalidTensorsError
from common.payload.blocks import Array, Doubles, finite, from_doubles, to_doubles
from common.payload.encodings.choice import Encoding
from common.payload.encodings.writer import Kind

SPAN: Final = 32 * 1024
"""Elements among which topk chooses; places in a span fit in 15 bits, and spans can be read independently."""

LARGEST: Final[Mapping[str, float]] = {
    "F64": float(np.finfo(np.float64).max),
    "F32": float(np.finfo(np.float32).max),
    "BF16": float.fromhex("0x1.fep127"),
    "F16": float(np.finfo(np.float16).max),
}
"""Largest finite number of every dtype that can be encoded."""

_STEPS: Final = 127
_FINEST: Final = float(np.finfo(np.float32).tiny)

Parts = Mapping[str, Array]
"""Stored elements by the suffix of their part."""


class Form(Protocol):
    """One way to write a tensor.

    All runs of elements start at a multiple of `SPAN`, and end at one or at the end of the tensor.
    """

    @property
    def bytes_per_element(self) -> float:
        """Return how much an element takes."""
        ...

    @property
    def largest(self) -> float:
        """Return the largest magnitude that can be written."""
        ...

    def kinds(self, shape: tuple[int, ...], elements: int) -> dict[str, Kind]:
        """Return dtype and shape of the parts, by suffix."""
        ...

    def runs(self, first: int, count: int) -> dict[str, tuple[int, int]]:
        """Return where the parts of a run of elements are: first element and number of elements, by suffix."""
        ...

    def pack(self, numbers: Doubles, peak: float) -> Parts:
        """Return the parts of a run of finite numbers, of a tensor whose largest magnitude is `peak`."""
        ...

    def unpack(self, name: str, parts: Parts, count: int) -> Doubles:
        """Return the numbers of a run.

        Raises:
            InvalidTensorsError: If `pack` cannot have made these parts.
        """
        ...


@dataclass(frozen=True, slots=True)
class BFloat16:
    """Numbers rounded to 8 significant bits, ties to even: the error is at most 2**-8 of each number."""

    @property
    def bytes_per_element(self) -> float:
        """See `Form`."""
        return 2

    @property
    def largest(self) -> float:
        """See `Form`."""
        return LARGEST["BF16"]

    def kinds(self, shape: tuple[int, ...], elements: int) -> dict[str, Kind]:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return {"": ("BF16", shape)}

    def runs(self, first: int, count: int) -> dict[str, tuple[int, int]]:
        """See `Form`."""
        return {"": (first, count)}

    def pack(self, numbers: Doubles, peak: float) -> Parts:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return {"": from_doubles(numbers, "BF16")}

    def unpack(self, name: str, parts: Parts, count: int) -> Doubles:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return _finite_doubles(name, parts[""], "BF16")


@dataclass(frozen=True, slots=True)
class Float16:
    """Numbers rounded to 11 significant bits, ties to even, after division by a power of two for each tensor.

    The power makes the largest magnitude use the upper end of the range. Without it the changes of a careful training, often
    below 2**-14, would be left with fewer bits than bfloat16 has. The error is at most 2**-11 of each number, or 2**-39 of
    the largest magnitude of the tensor where that is more.
    """

    @property
    def bytes_per_element(self) -> float:
        """See `Form`."""
        return 2

    @property
    def largest(self) -> float:
        """See `Form`."""
        return LARGEST["F32"]

    def kinds(self, shape: tuple[int, ...], elements: int) -> dict[str, Kind]:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return {".f16": ("F16", shape), ".scale": ("F32", ())}

    def runs(self, first: int, count: int) -> dict[str, tuple[int, int]]:
        """See `Form`."""
        return {".f16": (first, count), ".scale": (0, 1)}

    def pack(self, numbers: Doubles, peak: float) -> Parts:
        """See `Form`."""
        scale = max(math.ldexp(1.0, math.frexp(peak)[1] - 15), _FINEST)
        return {".f16": from_doubles(numbers * (1 / scale), "F16"), ".scale": np.array([scale], dtype="<f4")}

    def unpack(self, name: str, parts: Parts, count: int) -> Doubles:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return _finite_doubles(name, parts[".f16"], "F16") * _scale(name, parts)


@dataclass(frozen=True, slots=True)
class Int8:
    """Whole steps of one size for each tensor, symmetric around 0, rounded to the nearest, ties to even.

    The step is 1/127 of the largest magnitude; the error is at most half a step.
    """

    @property
    def bytes_per_element(self) -> float:
        """See `Form`."""
        return 1

    @property
    def largest(self) -> float:
        """See `Form`."""
        return LARGEST["F32"]

    def kinds(self, shape: tuple[int, ...], elements: int) -> dict[str, Kind]:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return {".q8": ("I8", shape), ".scale": ("F32", ())}

    def runs(self, first: int, count: int) -> dict[str, tuple[int, int]]:
        """See `Form`."""
        return {".q8": (first, count), ".scale": (0, 1)}

    def pack(self, numbers: Doubles, peak: float) -> Parts:
        """See `Form`."""
        scale = np.array([max(peak / _STEPS, _FINEST)], dtype="<f4")
        steps = numbers * (1 / float(scale[0]))
        np.rint(steps, out=steps)
        return {".q8": np.clip(steps, -_STEPS, _STEPS, out=steps).astype("i1"), ".scale": scale}

    def unpack(self, name: str, parts: Parts, count: int) -> Doubles:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        return parts[".q8"].astype(np.float64) * _scale(name, parts)


@dataclass(frozen=True, slots=True)
class TopK:
    """The elements of largest magnitude of each span, as BF16; the others count as 0.

    Of equal magnitudes the first are taken. Choosing in spans and not in the whole tensor keeps memory small and places short,
    and the guarantee that error feedback rests on is the same: the squared error is at most 1 - keep / SPAN of the squared
    norm, up to the rounding to BF16.

    Attributes:
        keep: Elements of a whole span; a shorter last span keeps its share of them, rounded up.
    """

    keep: int

    @property
    def bytes_per_element(self) -> float:
        """See `Form`."""
        return 4 * self.keep / SPAN

    @property
    def largest(self) -> float:
        """See `Form`."""
        return LARGEST["BF16"]

    def kinds(self, shape: tuple[int, ...], elements: int) -> dict[str, Kind]:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        kept = (self._kept(elements),)
        return {".idx": ("I16", kept), ".val": ("BF16", kept)}

    def runs(self, first: int, count: int) -> dict[str, tuple[int, int]]:
        """See `Form`."""
        run = (first // SPAN * self.keep, self._kept(count))
        return {".idx": run, ".val": run}

    def pack(self, numbers: Doubles, peak: float) -> Parts:  # noqa: ARG002 - part of the protocol
        """See `Form`."""
        whole = len(numbers) - len(numbers) % SPAN
        chosen = [_largest(numbers[:whole].reshape(-1, SPAN), self.keep)] if whole else []
        if whole < len(numbers):
            rest = numbers[whole:]
            chosen.append(_largest(rest.reshape(1, -1), self._kept(len(rest))) + whole)
        places = np.concatenate(chosen)
        return {".idx": (places % SPAN).astype("<i2"), ".val": from_doubles(numbers[places], "BF16")}

    def unpack(self, name: str, parts: Parts, count: int) -> Doubles:
        """See `Form`."""
        values = _finite_doubles(name, parts[".val"], "BF16")
        spans = np.repeat(np.arange(0, count, SPAN), self.keep)[: len(values)]
        offsets = parts[".idx"].astype(np.int64)
        places = offsets + spans
        # ascending says at once that no place occurs twice; a place of another span would break the order or the range
        ascending = np.all(places[1:] > places[:-1])
        if not ascending or offsets.min(initial=0) < 0 or places.max(initial=-1) >= count:
            _refuse(f"tensor {name!r} has places that are out of range, out of order, or twice there")
        numbers = np.zeros(count)
        numbers[places] = values
        return numbers

    def _kept(self, elements: int) -> int:
        whole, rest = divmod(elements, SPAN)
        return whole * self.keep + -(-rest * self.keep // SPAN)


def form_of(encoding: Encoding) -> Form:
    """Return how tensors are written under an encoding other than raw."""
    match encoding.name:
        case "raw":
            raise ValueError("raw tensors are written as they are")
        case "fp16":
            return Float16()
        case "bf16":
            return BFloat16()
        case "int8":
            return Int8()
        case "topk":
            return TopK(max(1, round((encoding.fraction or 0) * SPAN)))


def _largest(rows: Doubles, keep: int) -> npt.NDArray[np.intp]:
    """Return the places, in the flat array, of the `keep` elements of largest magnitude of each row, ascending."""
    sizes = np.abs(rows).astype(np.float32)  # precise enough to choose by, and three times as fast
    least = np.partition(sizes, -keep, axis=1)[:, -keep, None]
    taken = sizes >= least
    for row in np.flatnonzero(taken.sum(axis=1) > keep):
        above = int((sizes[row] > least[row]).sum())
        equal = np.flatnonzero(sizes[row] == least[row])
        taken[row, equal[keep - above :]] = False
    return np.flatnonzero(taken)


def _scale(name: str, parts: Parts) -> float:
    scale = float(parts[".scale"][0])
    if not 0 < scale < math.inf:
        _refuse(f"tensor {name!r} has the scale {scale}")
    return scale


def _finite_doubles(name: str, stored: Array, dtype: str) -> Doubles:
    if not finite(stored, dtype):
        _refuse(f"tensor {name!r} has an encoded number that is not finite")
    return to_doubles(stored, dtype)


def _refuse(reason: str) -> NoReturn:
    raise InvalidTensorsError(reason=reason)
