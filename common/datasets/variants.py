"""Name genetic variants, and find those that are meant whatever order and alleles a hospital's files have."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import DataFileError, InvalidArgumentsError, UnknownVariantError

UNKNOWN: Final = "0"
"""The allele of a site where a file saw one allele only, as PLINK writes it."""

_REGION: Final = re.compile(r"([^:\s]+)(?::(\d{1,10})-(\d{1,10}))?")
_WHOLE: Final = 2**31 - 1
"""The last position that an index of a VCF file can name."""
_NEAR: Final = 100_000
"""Variants closer than this are read in one go."""
_SHOWN: Final = 5
_LONGEST_LINE: Final = 100_000


class Variant(NamedTuple):
    """One allele at one place; written `chromosome:position:ref:alt`.

    Attributes:
        chromosome: 1 to 22, X, Y, MT or another name, without `chr` before it.
        position: From 1, as VCF and PLINK count.
        ref: The allele that does not count.
        alt: The allele whose copies are counted.
    """

    chromosome: str
    position: int
    ref: str
    alt: str

    def __str__(self) -> str:
        return ":".join(map(str, self))

    @property
    def swapped(self) -> Variant:
        """Return the same variant with the other allele counted."""
        return Variant(self.chromosome, self.position, self.alt, self.ref)


class Region(NamedTuple):
    """A part of a chromosome, with both ends; written `6:25000000-34000000`, or `6` for all of it."""

    chromosome: str
    start: int
    end: int

    def holds(self, variant: Variant) -> bool:
        """Tell whether a variant lies in it."""
        return variant.chromosome == self.chromosome and self.start <= variant.position <= self.end


@lru_cache(maxsize=4096)
def chromosome(name: str) -> str:
    """Return the name of a chromosome as variants have it: `chr1` is 1, `M` is MT."""
    plain = name[3:] if name[:3].lower() == "chr" else name
    return "MT" if plain in ("M", "m") else plain.upper() if plain in ("x", "y", "mt") else plain


def parsed_variant(text: str) -> Variant:
    """Return a variant as it is written.

    Raises:
        ValueError: If it is not `chromosome:position:ref:alt`.
    """
    name, place, ref, alt = text.strip().split(":", 3)
    if not (name and ref and alt) or ref == alt or int(place) < 1:
        raise ValueError(text)
    return Variant(chromosome(name), int(place), ref.upper(), alt.upper())


def parsed_variants(texts: Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants of a plan in their order.

    Raises:
        InvalidArgumentsError: If one is not written as variants are, or is there twice.
    """
    found = []
    for text in texts:
        try:
            found.append(parsed_variant(text))
        except ValueError as error:
            problem = f"  variants: {text!r} is not chromosome:position:ref:alt"
            raise InvalidArgumentsError(problems=problem) from error
    if twice := first_repeated(found):
        raise InvalidArgumentsError(problems=f"  variants: {twice} is there twice")
    return tuple(found)


def parsed_region(text: str) -> Region:
    """Return a region as it is written.

    Raises:
        InvalidArgumentsError: If it is neither `chromosome:start-end` nor `chromosome`.
    """
    found = _REGION.fullmatch(text)
    start, end = map(int, found.group(2, 3)) if found and found[2] else (1, _WHOLE)
    if found is None or not 1 <= start <= end:
        raise InvalidArgumentsError(problems=f"  regions: {text!r} is not chromosome:start-end")
    return Region(chromosome(found[1]), start, end)


def panel(path: Path) -> tuple[Variant, ...]:
    """Return the variants that a text file lists, one in a line; what begins with # is a comment.

    Raises:
        DataFileError: If it cannot be read, a line is no variant, or one is there twice.
    """
    found: list[Variant] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), 1):
                if line.strip() and not line.startswith("#"):
                    found.append(_of_line(path, number, line))
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(path=path, data_type="a list of variants", reason=str(error)) from error
    if not found:
        raise DataFileError(path=path, data_type="a list of variants", reason="it is empty")
    if twice := first_repeated(found):
        raise DataFileError(path=path, data_type="a list of variants", reason=f"{twice} is there twice")
    return tuple(found)


def first_repeated(variants: Iterable[Variant]) -> Variant | None:
    """Return the first variant that is there twice, with the same or with swapped alleles."""
    seen = set()
    for one in variants:
        key = one if one.ref < one.alt else one.swapped
        if key in seen:
            return one
        seen.add(key)
    return None


def digest(variants: Iterable[Variant]) -> str:
    """Return 16 hexadecimal digits that are the same for the same variants in the same order, and for no others."""
    text = "\n".join(map(str, variants))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def within(variants: Iterable[Variant], regions: Sequence[Region]) -> tuple[Variant, ...]:
    """Return the variants in any of these regions, all if there are none, in their order."""
    return tuple(one for one in variants if not regions or any(region.holds(one) for region in regions))


def spans(variants: Iterable[Variant]) -> list[Region]:
    """Return regions that hold all of these variants, and little else where they lie far apart."""
    found: list[Region] = []
    for name, place in sorted({(one.chromosome, one.position) for one in variants}):
        last = found[-1] if found else None
        if last is not None and last.chromosome == name and place - last.end <= _NEAR:
            found[-1] = last._replace(end=place)
        else:
            found.append(Region(name, place, place))
    return found


def matched(
    wanted: Sequence[Variant], found: Iterable[Variant]
) -> tuple[tuple[Variant, ...], NDArray[np.bool_]]:
    """Return, for each variant that is wanted, what the files call it, and whether they count the other allele.

    A site where a file saw one allele only fits every variant with that allele.

    Raises:
        UnknownVariantError: If some are not there; names the first and counts all.
    """
    there = set(found)
    local: list[Variant] = []
    swapped = np.zeros(len(wanted), np.bool_)
    lacking = []
    for position, one in enumerate(wanted):
        other = one.swapped
        for name, swap in (
            (one, False),
            (other, True),
            (one._replace(alt=UNKNOWN), False),
            (other._replace(alt=UNKNOWN), True),
        ):
            if name in there:
                local.append(name)
                swapped[position] = swap
                break
        else:
            lacking.append(one)
    if lacking:
        names = ", ".join(map(str, lacking[:_SHOWN])) + (", ..." if len(lacking) > _SHOWN else "")
        raise UnknownVariantError(count=len(lacking), wanted=len(wanted), variants=names)
    return tuple(local), swapped


def _of_line(path: Path, number: int, line: str) -> Variant:
    try:
        return parsed_variant(line)
    except ValueError as error:
        reason = f"line {number} is not chromosome:position:ref:alt"
        raise DataFileError(path=path, data_type="a list of variants", reason=reason) from error
