"""Run hostile plans in this process, confined or not, and print what came of each: `confined.py ORDER`, a JSON object.

uid      the user to become first, or null
missing  walls that this machine shall seem not to have
policy   what to confine to, or null
source   python text
facts    what its functions are called with

The first line tells what stands, each further line what one function did.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading

from node.sandbox import SandboxPolicy, confine
from node.sandbox.privileges import forgo_new_privileges
from node.sandbox.seccomp import ALLOW, ERRNO, install, machine
from node.sandbox.syscalls import NUMBERS

# A user without access to the installation must find these loaded already.
PRELOADED = (ctypes, fcntl, mmap, resource, signal, socket, struct, subprocess, threading)

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06


def say(**facts):
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def pretend_missing(walls):
    """Make the kernel behave like one that lacks these walls."""
    calls = NUMBERS[machine()]
    program = [(LOAD, 0, 0, 0)]
    if "landlock" in walls:
        program += [(EQUAL, 0, 1, 444), (RETURN, 0, 0, ERRNO | errno.EOPNOTSUPP)]
    if "namespaces" in walls:
        program += [(EQUAL, 0, 1, calls["unshare"]), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    if "seccomp" in walls:
        refusal = (RETURN, 0, 0, ERRNO | errno.EINVAL)
        program += [(EQUAL, 0, 3, calls["prctl"]), (LOAD, 0, 0, 16), (EQUAL, 0, 1, 22), refusal]
    forgo_new_privileges()
    install([*program, (RETURN, 0, 0, ALLOW)])


def main(order):
    if order["uid"] is not None:
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    if order["missing"]:
        pretend_missing(order["missing"])
    stands = None
    if order["policy"] is not None:
        stands = confine(SandboxPolicy.model_validate(order["policy"])).model_dump(mode="json")
    say(stands=stands)
    plan = {"__name__": "hostile_plan"}
    exec(compile(order["source"], "hostile_plan", "exec"), plan)  # noqa: S102 - that is its purpose
    for name in [name for name in plan if name.startswith("attack_")]:
        try:
            gained = plan[name](order["facts"])
        except Exception as error:  # noqa: BLE001 - whatever stops an attack is worth telling
            say(attack=name, gained=None, error=f"{type(error).__name__}: {error}")
        else:
            say(attack=name, gained=repr(gained), error=None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
