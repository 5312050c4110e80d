"""Run as the worker process: `python -m node.worker.child FD` does the tasks that come over that socket, one by one."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import sys
import threading
import traceback

import torch

from common.errors import PlanFailedError, WarrenError, WorkerFaultError
from common.ids import TaskId
from node.worker.lean_torch import spare_compiler
from node.worker.protocol import Failed, Ready, read_order, write_frame
from node.worker.session import Session

log = logging.getLogger(__name__)

_LONGEST_DETAIL = 20_000


def serve(connection: socket.socket) -> None:
    """Do tasks until the other side is gone.

    A task that fails is reported, and the next one starts afresh. Losses of a task that takes long are sent meanwhile.

    Raises:
        BrokenPipeError: If the other side went away while it was being told something.
    """
    _warm_up()
    session = Session()
    write_frame(connection, Ready(torch_version=torch.__version__))
    while (order := read_order(connection)) is not None:
        try:
            done = session.run(order, lambda progress: write_frame(connection, progress))
        except Exception as error:  # noqa: BLE001 - whatever a task meets, the agent is told and decides
            write_frame(connection, _failed(order.task_id, error))
        else:
            write_frame(connection, done)


def _warm_up() -> None:
    """Take one step of training: torch imports a good part of itself at the first one."""
    spare_compiler()
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    torch.autograd.backward(model(torch.ones(1, 1)).sum())
    optimizer.step()
    optimizer.zero_grad()


def _failed(task_id: TaskId, error: Exception) -> Failed:
    known = error if isinstance(error, WarrenError) else WorkerFaultError(error_type=type(error).__name__)
    return Failed(
        task_id=task_id,
        code=known.code,
        text=known.public_text,
        plan_line=known.facts["line"] if isinstance(known, PlanFailedError) else None,
        detail="".join(traceback.format_exception(error))[-_LONGEST_DETAIL:],
    )


def _end_with(connection: socket.socket) -> None:
    """End the process as soon as the other side closes the socket, whatever a plan is doing."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    poller.poll()
    os._exit(0)


def main() -> None:
    """Serve the socket whose file descriptor is the first argument; a dead agent leaves no worker behind."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        threading.Thread(target=_end_with, args=(connection,), name="agent-watch", daemon=True).start()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            serve(connection)


if __name__ == "__main__":
    main()
