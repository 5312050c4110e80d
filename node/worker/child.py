"""Run as the worker process: `python -P -s -m node.worker.child FD` shuts itself in and does the tasks that come over that socket.

Nothing that starts a thread may be imported at the top: `confine` comes first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import sys
import threading
import traceback

from common.errors import PlanFailedError, ProtectionMissingError, WarrenError, WorkerFaultError
from common.ids import TaskId
from node.sandbox import Protections, confine
from node.worker.protocol import Failed, Ready, RunSpec, Unprotected
from node.worker.wire import read_order, read_policy, write_report

log = logging.getLogger(__name__)

_LONGEST_DETAIL = 20_000
_LONGEST_TEXT = 2_000


def serve(connection: socket.socket, stands: Protections) -> None:
    """Do tasks until the other side is gone.

    A task that fails is reported, and the next one starts afresh. Losses of a task that takes long are sent meanwhile.

    Args:
        connection: Leads to the agent.
        stands: The walls around this process.

    Raises:
        BrokenPipeError: If the other side went away while it was being told something.
    """
    from node.worker.session import Session  # imports torch, which starts threads

    session = Session()
    write_report(connection, Ready(torch_version=_warm_up(), stands=stands))
    run: RunSpec | None = None
    while (order := read_order(connection, run)) is not None:
        run = order.run
        try:
            made = session.run(order, lambda progress: write_report(connection, progress))
            write_report(connection, made)
        except Exception as error:  # noqa: BLE001 - whatever a task meets, the agent is told and decides
            write_report(connection, _failed(order.task.task_id, error))


def _warm_up() -> str:
    """Take one step of training, for torch imports a good part of itself at the first one; return the version of torch."""
    import torch

    from node.worker.lean_torch import spare_compiler

    spare_compiler()
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    torch.autograd.backward(model(torch.ones(1, 1)).sum())
    optimizer.step()
    optimizer.zero_grad()
    return torch.__version__


def _failed(task_id: TaskId, error: Exception) -> Failed:
    known = error if isinstance(error, WarrenError) else WorkerFaultError(error_type=type(error).__name__)
    return Failed(
        task_id=task_id,
        code=known.code,
        text=known.public_text[:_LONGEST_TEXT],
        plan_line=known.facts["line"] if isinstance(known, PlanFailedError) else None,
        detail="".join(traceback.format_exception(error))[-_LONGEST_DETAIL:],
    )


def _shut_in(connection: socket.socket) -> Protections | None:
    """Put up the walls that the agent asks for; none if a compulsory one does not stand, which the agent is told, or it is gone."""
    policy = read_policy(connection)
    if policy is None:
        return None
    try:
        return confine(policy)
    except ProtectionMissingError as error:
        facts = {name: str(value)[:_LONGEST_TEXT] for name, value in error.facts.items()}
        write_report(
            connection,
            Unprotected(protection=facts["protection"], reason=facts["reason"], advice=facts["advice"]),
        )
        return None


def _end_with(connection: socket.socket) -> None:
    """End the process as soon as the other side closes the socket, whatever a plan is doing."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    poller.poll()
    os._exit(0)


def main() -> None:
    """Serve the socket whose file descriptor is the first argument; a dead agent leaves no worker behind."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    with (
        socket.socket(fileno=int(sys.argv[1])) as connection,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        if (stands := _shut_in(connection)) is not None:
            threading.Thread(target=_end_with, args=(connection,), name="agent-watch", daemon=True).start()
            serve(connection, stands)


if __name__ == "__main__":
    main()
