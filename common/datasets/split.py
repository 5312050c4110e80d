"""Decide which samples are for testing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from common.datasets.base import Rows


def test_part(sample_ids: NDArray[np.int64], ratio: float, seed: int) -> Rows:
    """Return the positions of round(ratio * n) samples, ascending, chosen by their ids.

    Samples are ranked by a hash of seed and id (the finaliser of SplitMix64), so the choice is the same on every machine and
    version, in whatever order the samples come, and for other ids it is independent.
    """
    count = round(ratio * len(sample_ids))
    return np.sort(_ranked(sample_ids, seed)[:count]) if count else np.empty(0, np.int64)


def fold_part(sample_ids: NDArray[np.int64], fold: tuple[int, int], seed: int) -> Rows:
    """Return the positions of one of several test parts, ascending, chosen by ids as `test_part` does.

    Each sample is in one of them, and their sizes differ by at most one.

    Args:
        sample_ids: Of all samples.
        fold: Which part, from 0, and of how many.
        seed: The same for all parts.
    """
    index, count = fold
    size = len(sample_ids)
    return np.sort(_ranked(sample_ids, seed)[index * size // count : (index + 1) * size // count])


def lasting_part(sample_ids: NDArray[np.int64], ratio: float, seed: int) -> Rows:
    """Return the positions of about ratio * n samples, ascending, each chosen by its own id alone.

    So a sample stays on its side whatever samples are added, removed or put into another order, and samples with one id stay together.
    """
    return np.flatnonzero(_shares(sample_ids, seed) < ratio).astype(np.int64)


def lasting_fold(sample_ids: NDArray[np.int64], fold: tuple[int, int], seed: int) -> Rows:
    """Return the positions of one of several test parts of about equal size, chosen as `lasting_part` does; each sample is in one."""
    index, count = fold
    return np.flatnonzero((_shares(sample_ids, seed) * count).astype(np.int64) == index).astype(np.int64)


def _shares(sample_ids: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return a number from 0 to 1, less than 1, for each id."""
    mixed = _mixed(sample_ids.astype(np.uint64) + _mixed(np.array([seed], dtype=np.uint64)))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _ranked(sample_ids: NDArray[np.int64], seed: int) -> Rows:
    ranks = _mixed(sample_ids.astype(np.uint64) + _mixed(np.array([seed], dtype=np.uint64)))
    return np.argsort(ranks, kind="stable").astype(np.int64)


def stable_ids(names: Iterable[str]) -> NDArray[np.int64]:
    """Return an id for each name, the same on every machine; what else is in the set does not matter."""
    digests = (
        hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names
    )
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
