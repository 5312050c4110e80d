"""Shut in a process that runs the code of others.

`policy` says what is asked for and what was got, `confine` does it to the calling process, `probe` finds out what a machine
offers; the other modules each put up one wall.
"""

from node.sandbox.confine import confine
from node.sandbox.policy import Limits, Protection, ProtectionName, Protections, SandboxPolicy, WorkerUser
from node.sandbox.probe import detect
from node.sandbox.scratch import remove_scratch
from node.sandbox.user import hand_over, worker_user

__all__ = [
    "Limits",
    "Protection",
    "ProtectionName",
    "Protections",
    "SandboxPolicy",
    "WorkerUser",
    "confine",
    "detect",
    "hand_over",
    "remove_scratch",
    "worker_user",
]
