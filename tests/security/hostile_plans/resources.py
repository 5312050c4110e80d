"""Plans that use up the machine. The bounds of the tests are 256 MiB of memory and 1 MiB of file."""

import ctypes
import mmap
import os
from pathlib import Path

from node.sandbox.libc import syscall
from node.sandbox.seccomp import machine
from node.sandbox.syscalls import NUMBERS

MUCH = 512 * 2**20


def attack_fill_memory(facts):
    return len(bytearray(MUCH))


def attack_fill_memory_bit_by_bit(facts):
    return len([bytes(2**20) for _ in range(MUCH >> 20)])


def attack_map_private_memory(facts):
    return len(mmap.mmap(-1, MUCH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def attack_map_shared_memory(facts):
    return len(mmap.mmap(-1, MUCH))


def attack_reserve_memory_and_use_it_later(facts):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(
        None, ctypes.c_size_t(MUCH), 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_long(0)
    )
    if libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(MUCH), mmap.PROT_READ | mmap.PROT_WRITE) != 0:
        raise MemoryError
    return "usable"


def attack_make_a_file_in_memory(facts):
    return os.memfd_create("much")


def attack_share_memory_by_number(facts):
    numbers = NUMBERS[machine()]
    segment = syscall(numbers["shmget"], 0, 4096, 0o1600)
    return syscall(numbers["shmctl"], segment, 0, 0)  # removed again


def attack_share_memory_by_name(facts):
    shared = Path("/dev/shm/warren-hostile")  # noqa: S108 - an attack
    shared.write_bytes(b"much")
    shared.unlink()
    return "made"


def attack_write_a_large_file(facts):
    file = Path(facts["scratch"], "large")
    try:
        return file.write_bytes(bytes(2 * 2**20))
    finally:
        file.unlink()


def attack_reserve_a_large_file(facts):
    file = Path(facts["scratch"], "reserved")
    try:
        with file.open("wb") as opened:
            os.posix_fallocate(opened.fileno(), 0, 2 * 2**20)
        return file.stat().st_size
    finally:
        file.unlink()


def attack_leave_a_core_file(facts):
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    return resource.getrlimit(resource.RLIMIT_CORE)


def attack_open_very_many_files(facts):
    opened = []
    try:
        for _ in range(100):
            opened.append(os.open("/dev/null", os.O_RDONLY))  # noqa: PERF401 - what was opened is closed again
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return len(opened)
