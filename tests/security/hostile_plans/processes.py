"""Plans that start programs, or multiply."""

import contextlib
import ctypes
import os
import signal
import subprocess

from node.sandbox.libc import syscall
from node.sandbox.seccomp import machine
from node.sandbox.syscalls import NUMBERS


def _run(child):
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)


def attack_fork(facts):
    return _run(os.fork())


def attack_fork_bomb(facts):
    children = []
    for _ in range(10):
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return children


def attack_raw_clone(facts):
    return _run(syscall(NUMBERS[machine()]["clone"], signal.SIGCHLD, 0, 0, 0, 0))


def attack_raw_clone3(facts):
    arguments = ctypes.create_string_buffer(88)
    ctypes.c_uint64.from_buffer(arguments, 32).value = signal.SIGCHLD
    return _run(syscall(NUMBERS[machine()]["clone3"], arguments, 88))


def attack_run_a_shell(facts):
    return subprocess.check_output(["/bin/sh", "-c", "echo patients"])


def attack_spawn_with_a_library_preloaded(facts):
    environment = {"LD_PRELOAD": "/lib/libc.so.6"}
    return os.waitpid(os.posix_spawn("/bin/true", ["true"], environment), 0)


def attack_become_a_shell(facts):
    """Without a name there is nothing to run, so this process survives where it is allowed."""
    with contextlib.suppress(FileNotFoundError):
        os.execve("/nonexistent", ["sh"], {})  # noqa: S606 - an attack
        return None
    return "allowed"
