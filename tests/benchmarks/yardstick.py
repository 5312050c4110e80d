"""Measure the machine itself, so that the figures of two runs can be compared."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import numpy as np

MIB: Final = 1024 * 1024
_LOOP: Final = 2_000_000


def measure(moved_mib: int = 100) -> dict[str, float]:
    """Return how fast this machine is now.

    Args:
        moved_mib: How much goes through the loopback and through memory.
    """
    block = os.urandom(MIB)
    started = time.process_time()
    loopback_s = _seconds(lambda: _sent(block, moved_mib))
    loopback_cpu_s = time.process_time() - started
    moved_mb = moved_mib * MIB / 1e6
    return {
        "python_loop_ms": _cpu_ms(_loop),
        "sha256_100_mb_ms": _cpu_ms(lambda: _hashed(block)),
        "memcpy_mb_s": moved_mb / _seconds(lambda: _copied(moved_mib)),
        "loopback_mb_s": moved_mb / loopback_s,
        "loopback_cpu_ms_mb": loopback_cpu_s * 1000 / moved_mb,
    }


def _loop() -> None:
    total = 0
    for number in range(_LOOP):
        total += number


def _hashed(block: bytes) -> None:
    digest = hashlib.sha256()
    for _ in range(95):  # 100 MB in blocks of a MiB
        digest.update(block)


def _copied(mib: int) -> None:
    """Copy through memory that nobody has touched before, as a program that holds a model does."""
    np.ones(mib * MIB, dtype=np.uint8).copy()


def _sent(block: bytes, mib: int) -> None:
    """Send over a plain TCP connection of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def receive() -> None:
            connection, _ = server.accept()
            buffer = bytearray(MIB)
            with connection:
                while connection.recv_into(buffer):
                    pass

        reader = threading.Thread(target=receive)
        reader.start()
        with socket.create_connection(server.getsockname()) as connection:
            for _ in range(mib):
                connection.sendall(block)
        reader.join()


def _cpu_ms(work: Callable[[], None]) -> float:
    started = time.thread_time()
    work()
    return (time.thread_time() - started) * 1000


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
