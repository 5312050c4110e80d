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
    ranks = _mixed(sample_ids.astype(np.uint64) + _mixed(np.array([seed], dtype=np.uint64)))
    chosen = np.argsort(ranks, kind="stable")[: round(ratio * len(sample_ids))]
    return np.sort(chosen).astype(np.int64)


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
