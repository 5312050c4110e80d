"""Be the script of a researcher: begin an experiment, or go on with it; say on standard output what happens.

`python -m tests.faults.researcher_process HOME SCRIPT`, where SCRIPT is the JSON of a `Script`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import logs
from common.errors import NoSuchExperimentError
from researcher import DefaultStrategy, Experiment
from researcher.home import HOME_VARIABLE, Home
from researcher.monitoring.events import Event, NodeChanged, NodeProgress, RoundEnded, TaskLost, UpdateArrived


@dataclass(frozen=True)
class Script:
    """What the script asks for."""

    name: str
    nodes: tuple[str, ...]
    rounds: int
    steps: int
    pause_s: float = 0.0
    width: int = 8
    retries: int = 1


class Teller:
    """Writes each event as a line of JSON."""

    def on_event(self, event: Event) -> None:
        document: dict[str, Any] = {"kind": type(event).__name__}
        match event:
            case RoundEnded(record):
                document |= {"round": record.round, "state": record.state, "model": record.model}
            case UpdateArrived(round_, record):
                document |= {"round": round_, "node": record.node, "outcome": record.outcome}
            case NodeChanged(node=node, online=online):
                document |= {"node": node, "online": online}
            case NodeProgress(round=round_, node=node, losses=losses):
                document |= {"round": round_, "node": node, "steps": losses[-1].iteration if losses else 0}
            case TaskLost():
                document |= asdict(event)
            case _:
                document |= {
                    "round": getattr(event, "round", None),
                    "resumed": getattr(event, "resumed", None),
                }
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


def experiment(home: Path, script: Script) -> Experiment:
    """Return the experiment, resumed if it was begun before."""
    try:
        return Experiment.resume(Home(home).experiments / script.name, observers=(Teller(),))
    except NoSuchExperimentError:
        from tests.faults.noisy_plan import NoisyPlan  # brings torch, which going on does not need

        return Experiment(
            tags=["trial"],
            nodes=script.nodes,
            training_plan_class=NoisyPlan,
            training_args={"num_updates": script.steps, "random_seed": 7, "test_ratio": 0.2},
            model_args={"pause_s": script.pause_s, "width": script.width},
            round_limit=script.rounds,
            node_selection_strategy=DefaultStrategy(retries=script.retries),
            experimentation_folder=script.name,
            observers=(Teller(),),
        )


def main() -> None:
    """Run to the last round, unless whoever started this ends first."""
    home, script = Path(sys.argv[1]), Script(**json.loads(sys.argv[2]))
    os.environ[HOME_VARIABLE] = str(home)
    logs.configure(file=home / "researcher.jsonl", stream=None)
    threading.Thread(target=_end_with_input, daemon=True).start()
    with experiment(home, script) as one:
        one.run()


def _end_with_input() -> None:
    os.read(0, 1)  # not through a buffer, whose lock would be held when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    main()
