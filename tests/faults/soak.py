"""Kill processes until told enough: `python -m tests.faults.soak --kills 500 --seed N`."""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.faults.storms import summary, weather

CONSOLE = Console(highlight=False)


def main() -> None:
    """Run storms until there were enough kills; the first difference from the undisturbed run ends it."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    options = parser.parse_args()
    CONSOLE.print(f"seed {options.seed}")
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="warren-soak-") as folder,
        weather(Path(folder), options.seed) as trial,
    ):
        while len(trial.kills) < options.kills:
            trial.storm(trial.mixed(options.kills - len(trial.kills)))
            CONSOLE.print(
                f"{len(trial.kills)} kills in {time.monotonic() - began:.0f} s; all models identical"
            )
    CONSOLE.print(summary(trial.kills))


if __name__ == "__main__":
    main()
