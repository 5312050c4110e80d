"""Plans that go after the agent: here a process of the same user."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
from pathlib import Path

from node.sandbox.libc import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl, syscall
from node.sandbox.seccomp import machine
from node.sandbox.syscalls import NUMBERS

CALLS = NUMBERS[machine()]
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17


def attack_read_its_environment(facts):
    environment = Path(f"/proc/{facts['victim']}/environ").read_bytes()
    if b"WARREN_SECRET" not in environment:
        raise LookupError
    return environment


def attack_read_its_memory(facts):
    return os.close(os.open(f"/proc/{facts['victim']}/mem", os.O_RDONLY)) or "open"


def attack_look_at_its_files(facts):
    return list(Path(f"/proc/{facts['victim']}/fd").iterdir())


def attack_trace_it(facts):
    syscall(CALLS["ptrace"], PTRACE_SEIZE, facts["victim"], 0, 0)
    return "attached"


def attack_copy_its_memory(facts):
    buffer = ctypes.create_string_buffer(8)
    start = int(Path(f"/proc/{facts['victim']}/maps").read_text().split("-")[0], 16)
    local = struct.pack("=QQ", ctypes.addressof(buffer), 8)
    remote = struct.pack("=QQ", start, 8)
    return syscall(CALLS["process_vm_readv"], facts["victim"], local, 1, remote, 1, 0)


def attack_send_it_a_signal(facts):
    os.kill(facts["victim"], signal.SIGWINCH)
    return "sent"


def attack_send_it_a_queued_signal(facts):
    information = struct.pack("=iii", signal.SIGWINCH, 0, -1) + bytes(116)
    return syscall(CALLS["rt_sigqueueinfo"], facts["victim"], signal.SIGWINCH, information)


def attack_send_it_a_signal_through_a_descriptor(facts):
    descriptor = syscall(CALLS["pidfd_open"], facts["victim"], 0)
    signal.pidfd_send_signal(descriptor, signal.SIGWINCH)
    return "sent"


def attack_let_the_kernel_send_it_a_signal(facts):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, facts["victim"])
    fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGWINCH)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"now")
    return "sent"


def attack_let_the_kernel_send_it_a_signal_by_ioctl(facts):
    try:
        end, _other = socket.socketpair()
    except PermissionError:
        end, _other = os.pipe()
    return fcntl.ioctl(end, 0x8901, struct.pack("=i", facts["victim"]))


def attack_change_its_limits(facts):
    return resource.prlimit(facts["victim"], resource.RLIMIT_CORE, (0, 0)) and "changed"


def attack_move_it_to_one_processor(facts):
    return os.sched_setaffinity(facts["victim"], os.sched_getaffinity(facts["victim"])) or "moved"


def attack_slow_it_down(facts):
    return os.setpriority(os.PRIO_PROCESS, facts["victim"], 1) or "slowed"


def attack_outlive_it(facts):
    prctl(PR_SET_PDEATHSIG, 0)
    return "freed"


def attack_show_oneself_to_others(facts):
    prctl(PR_SET_DUMPABLE, 1)
    return "shown"


def attack_read_secrets_from_the_environment(facts):
    return os.environ["WARREN_SECRET"]


def attack_read_secrets_from_the_environment_at_the_start(facts):
    if b"WARREN_SECRET" not in Path("/proc/self/environ").read_bytes():
        raise LookupError
    return "found"
