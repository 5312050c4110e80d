"""Run the page in a process of its own beside the agent."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from common.settings import Timeouts
from node.gui.listen import Listen
from node.home import NodeHome

log = logging.getLogger(__name__)

_GRACES: Final = 2
"""The page may take this many times the grace of an orderly end: it ends its requests, then itself."""


@contextlib.contextmanager
def beside(home: NodeHome, listen: Listen | None, *, terminal: bool = False) -> Iterator[None]:
    """Serve the page in a process of its own as long as the block runs.

    Whatever becomes of that process, this one goes on; and when this one ends, however it ends, the kernel closes the pipe between
    them, and that one ends too.

    Args:
        home: The node.
        listen: Where; None for no page.
        terminal: Whether a person reads what it prints; else that goes to `log/gui.out`, and the link that sets the page up to a file.
    """
    if listen is None:
        yield
        return
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-P",
        "-m",
        "node.gui.server",
        str(home.path),
        str(reader),
        listen.model_dump_json(),
    ]
    with (home.log / "gui.out").open("ab") as output:
        page = subprocess.Popen(
            [*command, "terminal" if terminal else "file"],
            pass_fds=(reader,),
            stdin=subprocess.DEVNULL,
            stdout=None if terminal else output,
            stderr=None if terminal else output,
            start_new_session=True,
        )
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)
        try:
            page.wait(_GRACES * Timeouts().stop_s)
        except subprocess.TimeoutExpired:
            log.warning("page killed", extra={"action": "page_killed", "pid": page.pid})
            page.kill()
            page.wait()
