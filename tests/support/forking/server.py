"""Fork processes of ours from one that has imported everything already: `python -P -s server.py SOCKET PADDING`.

Forking takes 30 ms of CPU; spawning takes up to 2.5 s, nearly all for imports. A fork gets the arguments, environment, folder, session and
open files that it would have got, runs the same module as its main program, and a worker puts up the same walls around itself.
Two things differ: its parent is this process, so the kernel ends a worker with this process and not with its agent (it still ends with
the socket that leads to its agent); and what it imports is there already.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import runpy
import selectors
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import torch

from node.sandbox import privileges
from node.worker import child

sys.path.append(str(Path(__file__).parent))
from forking_popen import NUMBER, VARIABLE, Popen

sys.path.pop()

LONGEST = 64 * 1024
MOST_FILES = 16
BEYOND = 100
"""Numbers of open files from here on are free."""
IMPORTED = (
    "deploy.demo.agents",
    "node.agent",
    "node.gui.errand_process",
    "node.process",
    "node.worker.session",
    "researcher.experiment",
)
THREADS = "OMP_NUM_THREADS"


def main(path: str) -> None:
    """Fork a process for each connection, and say on it how the process ended, until the standard input ends."""
    for module in IMPORTED:
        importlib.import_module(module)
    child._warm_up()
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen()
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listener:
                    asker = listener.accept()[0]
                    pid = fork(asker)
                    tell(asker, pid)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (asker, pid))
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    asker, pid = key.data
                    tell(asker, os.waitpid(pid, 0)[1])
                    asker.close()


def tell(asker: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever asked may be gone
        asker.sendall(number.to_bytes(NUMBER, "big"))


def fork(asker: socket.socket) -> int:
    """Make one process, and return its id."""
    text, files, _, _ = socket.recv_fds(asker, LONGEST, MOST_FILES)
    reader, writer = os.pipe()
    if (pid := os.fork()) != 0:
        for file in (*files, writer):
            os.close(file)
        os.read(reader, 1)  # from now on it can be found, and killed as a group, which is what agents do
        os.close(reader)
        return pid
    status = 1
    try:
        os.setsid()
        order = json.loads(text)
        _show(order.pop("shown"))
        os.close(writer)
        run(files, **order)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the interpreter prints what ends a main program, whatever it is
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
        os._exit(status)


def run(
    files: list[int],
    command: list[str],
    folder: str,
    environment: dict[str, str],
    numbers: list[int],
) -> None:
    """Become what was asked for, and do it."""
    _take(dict(zip(numbers, files, strict=True)))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    if environment.get(THREADS) == "1":  # other numbers would start threads, which walls do not allow
        torch.set_num_threads(1)
    at = command.index("-m")
    sys.argv = command[at + 1 :]
    if "-P" not in command:
        sys.path.insert(0, folder)
    if VARIABLE in environment:
        subprocess.Popen = Popen
    end_with = privileges.end_with
    privileges.end_with = lambda parent: end_with(os.getppid())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _take(files: dict[int, int]) -> None:
    """Give these files the numbers that they had where they were opened, and close all others."""
    moved = {number: fcntl.fcntl(file, fcntl.F_DUPFD, BEYOND) for number, file in files.items()}
    os.closerange(0, BEYOND)
    for number, file in moved.items():
        os.dup2(file, number)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        if int(name) not in files:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(int(name))


def _show(command: list[str]) -> None:
    """Let lists of processes show this command: the place of the arguments of this process is written over."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # see proc(5)
    text = "\0".join(command).encode()[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main(sys.argv[1])
