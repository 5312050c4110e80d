"""Make a seccomp filter of a list of system calls, and install it: Linux 3.17 and later.

A filter is a program for the kernel's packet filter that looks at the number and arguments of each call. It cannot look at
memory, so calls that pass their arguments there are refused as a whole.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Sequence
from typing import Final

from node.sandbox import syscalls
from node.sandbox.libc import PR_SET_SECCOMP, prctl
from node.sandbox.syscalls import Condition, Machine

ALLOW: Final = 0x7FFF_0000
KILL_PROCESS: Final = 0x8000_0000
ERRNO: Final = 0x0005_0000

_MODE_FILTER: Final = 2
_LOAD, _AND, _EQUAL, _GREATER, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x35, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data

Instruction = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, operand."""


def machine() -> Machine | None:
    """Return the kind of this machine, or None if there is no list of calls for it."""
    match platform.machine():
        case "x86_64":
            return "x86_64"
        case "aarch64" | "arm64":
            return "aarch64"
        case _:
            return None


def assemble(
    kind: Machine,
    own_pid: int,
    *,
    forbidden: Sequence[str] = syscalls.FORBIDDEN,
    absent: Sequence[str] = syscalls.ABSENT,
    conditions: Sequence[Condition] = syscalls.CONDITIONS,
) -> list[Instruction]:
    """Return the filter: everything is allowed that no list names.

    Calls of another machine or of the x32 set end the process; calls newer than the lists do not exist.

    Args:
        kind: The machine that it is for.
        own_pid: Process id of the worker.
        forbidden: Calls answered with EPERM; those that the machine lacks are passed over.
        absent: Calls answered with ENOSYS.
        conditions: Calls whose arguments decide; at most one for each call.
    """
    numbers = syscalls.NUMBERS[kind]
    program = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, syscalls.AUDIT_ARCH[kind]),
        _answer(KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, syscalls.X32),
        _answer(KILL_PROCESS),
        (_GREATER, 0, 1, syscalls.LAST_KNOWN),
        _answer(ERRNO | syscalls.UNKNOWN),
    ]
    blocks = {name: [_answer(ERRNO | syscalls.REFUSED)] for name in forbidden}
    blocks |= {name: [_answer(ERRNO | syscalls.UNKNOWN)] for name in absent}
    blocks |= {condition.call: _compare(condition, own_pid) for condition in conditions}
    for name, block in blocks.items():
        if name in numbers:
            program += [(_EQUAL, 0, len(block), numbers[name]), *block]
    return [*program, _answer(ALLOW)]


def install(program: Sequence[Instruction]) -> None:
    """Put the calling thread, and all it starts, under a filter for good; `no_new_privs` must be set.

    Raises:
        OSError: If the kernel refuses.
    """
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    prctl(PR_SET_SECCOMP, _MODE_FILTER, header)


def _answer(action: int) -> Instruction:
    return (_RETURN, 0, 0, action)


def _compare(condition: Condition, own_pid: int) -> list[Instruction]:
    """Return the lines that decide about one call, ending in an answer whatever its argument is."""
    values = [own_pid if value == syscalls.OWN else value for value in condition.values]
    refuse = ERRNO | syscalls.REFUSED
    met, unmet = (ALLOW, refuse) if condition.allowed else (refuse, ALLOW)
    return [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * condition.argument),  # both machines store the low half first
        (_AND, 0, 0, condition.mask),
        *((_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)),
        _answer(unmet),
        _answer(met),
    ]
