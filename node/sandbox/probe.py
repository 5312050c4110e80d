"""Find out what this machine offers, by doing it: `python -m node.sandbox.probe POLICY` confines itself and says what stands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from common.errors import WorkerStartError
from common.settings import Timeouts
from node.sandbox.confine import confine
from node.sandbox.policy import Limits, Protections, SandboxPolicy, WorkerUser
from node.sandbox.user import hand_over

TIMEOUT_S: Final = Timeouts().worker_start_s
"""A probe is started like a worker; it imports little and takes well under a second."""

_LIMITS: Final = Limits(
    memory_bytes=2**34, cpu_s=60, file_bytes=2**20, threads=16
)  # any bound will do to see that bounds hold


def detect(
    *, limits: Limits = _LIMITS, user: WorkerUser | None = None, read_only: tuple[Path, ...] = ()
) -> Protections:
    """Return the walls that a worker gets on this machine, started by this process.

    A process like a worker is started, confines itself and reports.

    Args:
        limits: The bounds of workers, as the node's policy has them; if not given, some bound of each kind.
        user: The user of workers.
        read_only: Data sets, which that user must be able to read.

    Raises:
        WorkerStartError: If that process fails.
    """
    with tempfile.TemporaryDirectory(prefix="warren-probe-") as folder:
        scratch = Path(folder).resolve()
        if user is not None and os.geteuid() == 0:
            hand_over(scratch, user)
        policy = SandboxPolicy(
            agent_pid=os.getpid(), scratch=scratch, read_only=read_only, limits=limits, user=user
        )
        command = [sys.executable, "-P", "-s", "-m", "node.sandbox.probe", policy.model_dump_json()]
        try:
            told = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=True,
                env={"PATH": os.defpath, "HOME": folder, "LANG": "C.UTF-8"},
            )
        except subprocess.SubprocessError as error:
            raise WorkerStartError(timeout_s=TIMEOUT_S, reason=str(error)) from error
    return Protections.model_validate_json(told.stdout)


if __name__ == "__main__":
    sys.stdout.write(confine(SandboxPolicy.model_validate_json(sys.argv[1])).model_dump_json())
