"""Many light nodes in few processes: real agents on real connections, without worker processes.

`python -m tests.benchmarks.crowd HOME...` is such a process. What a worker would do is done in it: node N adds N + 1 to every
parameter of a model of float32, block by block, so that a node costs no more memory than its agent.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

import node.agent
import node.parts
from common.allocator import keep_freed_memory
from common.ids import RunId, TaskId
from common.payload.blocks import BlockFile, blocks
from common.payload.header import Content
from node.home import NodeHome
from node.worker.folder import RunFolder
from node.worker.harvest import Bounds, harvest
from node.worker.pool import WorkerPool, WorkerSaid
from node.worker.protocol import Done, Made, Order
from researcher.federation import Federation as Place
from tests.support.world import World

PER_PROCESS: Final = 50
_DEADLINE_S: Final = 300.0


@dataclass(eq=False)
class Light:
    """Stands where a worker process would."""

    run_id: RunId
    folder: RunFolder
    task_id: TaskId | None = None
    ready: bool = True
    pid: int = field(default_factory=os.getpid)

    def stop(self) -> None:
        """Do nothing: there is no process."""


class LightPool(WorkerPool):
    """Does the tasks on one thread of the agent's own process."""

    _hands = ThreadPoolExecutor(max_workers=1)

    def give(self, run_id: RunId, order: Order) -> None:
        worker = self._workers.setdefault(run_id, Light(run_id, RunFolder(self.work / run_id)))
        worker.task_id = order.task.task_id
        self._hands.submit(self._do, worker, order)

    def _do(self, worker: Light, order: Order) -> None:
        path = Path(order.run.update_path)
        add_to(order.model, int(order.run.node_id.removeprefix("node")) + 1.0, path)
        done = Done(
            task_id=order.task.task_id,
            samples_seen=16,
            samples_train=16,
            samples_test=0,
            losses=(),
            validations=(),
            loaded_s=0.0,
            trained_s=0.0,
            validated_s=0.0,
            saved_s=0.0,
        )
        taken = harvest(worker.folder, order, Made(done, path), Bounds(2**40, math.inf))
        self._post(WorkerSaid(worker, done, taken))


def add_to(model: Content, number: float, update: Path) -> None:
    """Write a model with a number added to every parameter."""
    with BlockFile(model) as source, update.open("wb") as target:
        target.write(source.layout.header)
        for name, entry in source.index.items():
            for first, count in blocks(entry):
                target.write((source.read(name, first, count) + number).data)


class Crowd(World):
    """A federation of many light nodes."""

    def start(self) -> Crowd:
        """Start the broker and the processes of the agents."""
        self.broker.launch()
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", __spec__.name, *(str(self.homes[one].path) for one in some)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            for some in _batches(self.nodes)
        ]
        self.broker.wait_ready()
        for process in self._processes:
            process.stdin.write(b"\n")
            process.stdin.flush()
        return self

    def enter(self) -> Place:
        """Connect the researcher and wait until every node is online."""
        place = self._stack.enter_context(Place.open(self.researcher_home))
        place.wait_for(self.nodes, _DEADLINE_S)
        return place

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for process in self._processes:
            process.stdin.close()
        for process in self._processes:
            process.wait()
        self.broker.stop()


def _batches(nodes: Sequence[str]) -> list[Sequence[str]]:
    return [nodes[first : first + PER_PROCESS] for first in range(0, len(nodes), PER_PROCESS)]


def main() -> None:
    """Run the agents of these homes until the standard input ends."""
    node.parts.WorkerPool = LightPool
    keep_freed_memory()
    agents = [node.agent.build(NodeHome.open(Path(path))) for path in sys.argv[1:]]
    sys.stdin.readline()  # the broker is up
    threads = [threading.Thread(target=agent.run) for agent in agents]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    for agent in agents:
        agent.stop()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
