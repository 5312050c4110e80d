"""The pure half of the sandbox: what is asked for, what the filter says, what is reported."""

import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import ProtectionMissingError
from node.sandbox import (
    Limits,
    Protection,
    ProtectionName,
    Protections,
    SandboxPolicy,
    WorkerUser,
    detect,
    remove_scratch,
    worker_user,
)
from node.sandbox.landlock import IOCTL_DEV, REFER, TRUNCATE, handled
from node.sandbox.paths import SYSTEM_FILES, python_files
from node.sandbox.policy import exposed
from node.sandbox.seccomp import ALLOW, ERRNO, KILL_PROCESS, assemble
from node.sandbox.syscalls import ABSENT, AUDIT_ARCH, CONDITIONS, FORBIDDEN, LAST_KNOWN, NUMBERS, X32

MACHINES = list(NUMBERS)
PID = 4711
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38


def answer(program, machine, call, *arguments):
    """Run a filter as the kernel does."""
    number = NUMBERS[machine][call] if isinstance(call, str) else call
    arch = AUDIT_ARCH[machine]
    padded = [value & (2**64 - 1) for value in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    at, register = 0, 0
    while True:
        operation, if_true, if_false, operand = program[at]
        assert 0 <= if_true < 256
        assert 0 <= if_false < 256
        at += 1
        match operation:
            case 0x20:
                (register,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                register &= operand
            case 0x15:
                at += if_true if register == operand else if_false
            case 0x25:
                at += if_true if register > operand else if_false
            case 0x35:
                at += if_true if register >= operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(operation)


@pytest.fixture(scope="module", params=MACHINES)
def said(request):
    """Return what the filter of a machine answers to a call."""
    machine = request.param
    program = assemble(machine, PID)
    return lambda call, *arguments: answer(program, machine, call, *arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_has_a_number_on_some_machine_and_none_two(machine):
    listed = {*FORBIDDEN, *ABSENT, *(condition.call for condition in CONDITIONS)}

    assert set().union(*NUMBERS.values()) == listed
    assert len(listed) == len(FORBIDDEN) + len(ABSENT) + len(CONDITIONS)
    assert len(NUMBERS[machine]) == len(set(NUMBERS[machine].values()))
    assert max(NUMBERS[machine].values()) <= LAST_KNOWN


HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


# Elsewhere the table has no other source to be held against; the security tests try the calls themselves on every machine.
@pytest.mark.skipif(not HEADER.exists(), reason="the headers of the kernel are not installed")
def test_the_numbers_are_those_of_the_kernel():
    known = {
        name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    }
    table = NUMBERS["x86_64"]

    assert {name: table[name] for name in table if name in known} == {
        name: known[name] for name in table if name in known
    }
    assert set(FORBIDDEN) & set(known) <= set(table)


def test_what_is_listed_is_refused_and_what_is_not_is_allowed():
    for machine in MACHINES:
        program = assemble(machine, PID)
        numbers = NUMBERS[machine]
        for name in numbers:
            if name in FORBIDDEN:
                assert EPERM == answer(program, machine, name), name
            if name in ABSENT:
                assert ENOSYS == answer(program, machine, name), name
        for number in set(range(LAST_KNOWN + 1)) - set(numbers.values()):
            assert ALLOW == answer(program, machine, number)


@given(st.sampled_from(MACHINES), st.integers(LAST_KNOWN + 1, X32 - 1))
def test_calls_newer_than_the_lists_do_not_exist(machine, number):
    assert ENOSYS == answer(assemble(machine, PID), machine, number)


@given(st.sampled_from(MACHINES), st.integers(X32, 2**32 - 1))
def test_calls_of_the_other_set_end_the_process(machine, number):
    assert KILL_PROCESS == answer(assemble(machine, PID), machine, number)


def test_calls_of_another_machine_end_the_process():
    assert KILL_PROCESS == answer(assemble("aarch64", PID), "x86_64", "openat")
    assert KILL_PROCESS == answer(assemble("x86_64", PID), "aarch64", "openat")


def test_threads_can_be_made_but_no_processes(said):
    thread = 0x3D0F00  # what pthread_create asks for

    assert ALLOW == said("clone", thread)
    assert EPERM == said("clone", 17)  # fork: SIGCHLD
    assert EPERM == said("clone", thread & ~0x10000)
    assert ENOSYS == said("clone3")


@pytest.mark.parametrize("call", ["kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"])
def test_signals_go_to_the_worker_itself_only(said, call):
    assert ALLOW == said(call, PID, 9)
    assert ALLOW == said(call, PID | 1 << 32, 9)  # the kernel looks at the low half only, too
    for other in (PID - 1, PID + 1, 1, 0, -1, -PID):
        assert EPERM == said(call, other, 9)


def test_limits_of_others_cannot_be_changed(said):
    assert ALLOW == said("prlimit64", 0)
    assert ALLOW == said("prlimit64", PID)
    assert EPERM == said("prlimit64", PID + 1)


def test_memory_that_nobody_counts_cannot_be_mapped(said):
    private_anonymous, shared_file, shared_anonymous, validated = 0x22, 0x01, 0x21, 0x23

    assert ALLOW == said("mmap", 0, 4096, 3, private_anonymous)
    assert ALLOW == said("mmap", 0, 4096, 3, shared_file)
    assert EPERM == said("mmap", 0, 4096, 3, shared_anonymous)
    assert EPERM == said("mmap", 0, 4096, 3, validated)


def test_a_file_that_is_opened_to_be_read_cannot_be_emptied(said):
    assert ALLOW == said("openat", -100, 0, os.O_RDONLY | os.O_CLOEXEC)
    assert ALLOW == said("openat", -100, 0, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert EPERM == said("openat", -100, 0, os.O_RDONLY | os.O_TRUNC)
    assert EPERM == said("openat", -100, 0, os.O_ACCMODE | os.O_TRUNC)


def test_descriptors_work_but_send_no_signals(said):
    assert ALLOW == said("fcntl", 3, 4)  # F_SETFL
    assert EPERM == said("fcntl", 3, 8)  # F_SETOWN
    assert ALLOW == said("ioctl", 3, 0x5401)  # TCGETS
    assert EPERM == said("ioctl", 3, 0x5412)  # TIOCSTI
    assert EPERM == said("ioctl", 3, 0x5412 | 1 << 32)


def test_each_version_of_landlock_takes_away_all_it_knows():
    assert (1 << 13) - 1 == handled(1).files
    assert handled(2).files == handled(1).files | REFER
    assert handled(3).files == handled(2).files | TRUNCATE
    assert handled(7).files == handled(3).files | IOCTL_DEV
    assert (0, 0) == (handled(3).network, handled(5).scopes)
    assert (3, 3) == (handled(4).network, handled(6).scopes)


def test_a_readable_folder_above_a_secret_is_found(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(tmp_path)

    assert exposed([tmp_path], [home]) == (tmp_path, home)
    assert exposed([home], [home]) == (home, home)
    assert exposed([tmp_path / "link"], [home]) == (tmp_path / "link", home)
    assert exposed([home / "work"], [home / "kit"]) is None
    assert exposed([tmp_path / "hom"], [home]) is None


def test_neither_the_checkout_nor_secrets_of_the_system_are_readable():
    root = Path(__file__).parents[2]

    assert exposed(python_files(), [root / "tests"]) is None
    assert (
        exposed((*python_files(), *SYSTEM_FILES), [Path("/etc/passwd"), Path("/root/.ssh"), Path("/home")])
        is None
    )


def test_the_policy_survives_its_way_to_the_worker(tmp_path):
    policy = SandboxPolicy(
        agent_pid=PID,
        scratch=tmp_path,
        read_only=(tmp_path / "data",),
        limits=Limits(memory_bytes=1),
        user=WorkerUser(uid=1, gid=1),
        compulsory=frozenset({ProtectionName.FILES}),
    )

    assert policy == SandboxPolicy.model_validate_json(policy.model_dump_json())


def test_a_relative_path_is_refused():
    with pytest.raises(ValidationError, match="not absolute"):
        SandboxPolicy(agent_pid=PID, scratch=Path("scratch"))


def report(*active):
    return Protections.collect(
        Protection(name=name, active=name in active, detail="because", remedy="do that")
        for name in reversed(ProtectionName)
    )


@given(st.frozensets(st.sampled_from(ProtectionName)), st.frozensets(st.sampled_from(ProtectionName)))
def test_exactly_the_compulsory_walls_that_do_not_stand_are_missing(active, compulsory):
    protections = report(*active)

    assert compulsory - active == {item.name for item in protections.missing(compulsory)}
    assert list(ProtectionName) == [item.name for item in protections.items]


def test_a_missing_compulsory_wall_is_an_error_that_says_what_to_do():
    with pytest.raises(ProtectionMissingError) as caught:
        report().require({ProtectionName.FILES})

    assert "the protection files does not stand on this machine: because" in str(caught.value)
    assert "do that" == caught.value.advice
    assert "because" not in caught.value.public_text
    report(ProtectionName.FILES).require({ProtectionName.FILES})


def test_this_machine_says_of_every_wall_whether_it_stands():
    found = detect()

    assert list(ProtectionName) == [item.name for item in found.items]
    for item in found.items:
        assert item.detail
        assert item.active or item.remedy
    for bound in (ProtectionName.MEMORY, ProtectionName.CPU_TIME, ProtectionName.FILE_SIZE):
        assert found[bound].active


@pytest.mark.parametrize("name", ["root", "no-such-account"])
def test_workers_become_neither_root_nor_somebody_unknown(name):
    with pytest.raises(ProtectionMissingError, match=name):
        worker_user(name)


def test_what_a_worker_left_is_removed_however_deep_it_is(tmp_path):
    folder, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "closed").mkdir(mode=0)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)

    remove_scratch(folder)
    remove_scratch(folder)

    assert not folder.exists()
    assert "kept" == (outside / "kept").read_text()
