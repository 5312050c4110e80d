"""Plans that use rare parts of the kernel, where most of its holes were found."""

import ctypes
import os
import struct

from node.sandbox.libc import syscall, unshare
from node.sandbox.seccomp import machine
from node.sandbox.syscalls import NUMBERS

CALLS = NUMBERS[machine()]
NEW_USER, NEW_MOUNTS, NEW_NETWORK = 0x10000000, 0x20000, 0x40000000


def attack_io_uring(facts):
    return syscall(CALLS["io_uring_setup"], 1, ctypes.create_string_buffer(120))


def attack_openat2(facts):
    how = struct.pack("=QQQ", os.O_RDONLY, 0, 0)
    return syscall(CALLS["openat2"], -100, b"/proc/self/status\0", how, 24)


def attack_bpf(facts):
    attributes = struct.pack("=IIII", 2, 4, 8, 1) + bytes(112)  # BPF_MAP_TYPE_ARRAY
    return syscall(CALLS["bpf"], 0, attributes, len(attributes))


def attack_userfaultfd(facts):
    return syscall(CALLS["userfaultfd"], 1)


def attack_perf_event_open(facts):
    attributes = struct.pack("=IIQ", 1, 120, 0) + bytes(104)  # a software event: CPU clock
    return syscall(CALLS["perf_event_open"], attributes, 0, -1, -1, 0)


def attack_keyring(facts):
    return syscall(CALLS["keyctl"], 0, -3, 1)


def attack_new_mounts(facts):
    unshare(NEW_MOUNTS)
    return "new"


def attack_join_the_network_of_another(facts):
    network = os.open(f"/proc/{facts['victim']}/ns/net", os.O_RDONLY)
    return syscall(CALLS["setns"], network, NEW_NETWORK)


def attack_change_root(facts):
    os.chroot("/")
    return "changed"


def attack_handle_of_a_file(facts):
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    mount = ctypes.create_string_buffer(4)
    return syscall(CALLS["name_to_handle_at"], -100, facts["key"].encode() + b"\0", handle, mount, 0)


def attack_another_personality(facts):
    return syscall(CALLS["personality"], 0x0040000)


def attack_kernel_log(facts):
    return syscall(CALLS["syslog"], 10, 0, 0)


def attack_a_call_that_is_newer_than_the_lists(facts):
    buffer = ctypes.create_string_buffer(256)
    request = struct.pack("=IIQQ", 24, 0, 2**64 - 1, 0)  # listmount of the root
    return syscall(458, request, buffer, 16, 0)


def attack_set_a_user_again(facts):
    os.setresuid(65533, 65533, 65533)
    return "set"
