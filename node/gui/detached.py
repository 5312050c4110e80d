"""Stop or restart an agent that takes the page with it: `python -m node.gui.detached HOME DEED BY LISTEN`, in a session of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

from common import logs
from node.gui.listen import Listen
from node.home import NodeHome
from node.steward.agents import AgentControl

Deed = Literal["stop", "restart"]


def begin(home: NodeHome, deed: Deed, *, by: str, listen: Listen) -> None:
    """Let another process do it, which goes on when this one ends; the page of a restarted agent is where this one was."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "node.gui.detached",
        str(home.path),
        deed,
        by,
        listen.model_dump_json(),
    ]
    with (home.log / "gui.out").open("ab") as output:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _do(home: NodeHome, deed: str, by: str, listen: Listen) -> None:
    logs.configure("INFO", file=home.log / "gui.jsonl", stream=None)
    agent = AgentControl(home, by)
    if deed == "stop":
        agent.stop()
    else:
        agent.restart(page=listen)


if __name__ == "__main__":
    path, deed, by, where = sys.argv[1:]
    _do(NodeHome.open(Path(path)), deed, by, Listen.model_validate_json(where))
