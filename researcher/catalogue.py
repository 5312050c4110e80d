"""List the experiments of a home."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.cli import moment
from common.errors import NoSuchExperimentError, StorageError
from researcher.ledger import FILE, Ledger
from researcher.stopping import EarlyStopping


def experiments_of(folder: Path) -> list[dict[str, Any]]:
    """Return what can be said at a glance about each experiment, the oldest first; a damaged one says so."""
    found = [_glance(path.parent) for path in folder.glob(f"*/{FILE}")]
    return sorted(found, key=lambda one: (one["created"] or "", one["folder"]))


def _glance(folder: Path) -> dict[str, Any]:
    empty = {"folder": str(folder), "name": None, "rounds": None, "round_limit": None, "created": None}
    try:
        ledger = Ledger.open(folder)
    except (StorageError, NoSuchExperimentError) as error:
        return {**empty, "state": str(error)}
    with contextlib.closing(ledger):
        row, model, interrupted = ledger.experiment(), ledger.last_model(), ledger.open_rounds()
        stopped = _stopped(row.config, ledger)
    rounds, limit = model[0] if model else 0, row.config["round_limit"]
    finished = stopped or (limit is not None and rounds >= limit)
    return {
        "folder": str(folder),
        "name": row.name,
        "rounds": rounds,
        "round_limit": limit,
        "state": "in a round" if interrupted else "finished" if finished else "between rounds",
        "created": moment(row.created_at),
    }


def _stopped(config: Mapping[str, Any], ledger: Ledger) -> bool:
    """Tell whether the early stopping of an experiment lets no further round run."""
    rule, average = config.get("early_stopping"), config["training_args"]["test_metric_args"].get("average")
    return rule is not None and EarlyStopping(**rule).watch(ledger.rounds(), average).reason is not None
