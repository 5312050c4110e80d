"""Write the files that TensorBoard reads, without TensorBoard: numbers with a tag and a step.

A file is a row of records: length, checksum of the length, content, checksum of the content (the TFRecord format, checksums CRC-32C,
masked). A content is a protocol buffer `Event`: wall time (field 1), step (2), and either the version (3) or a `Summary` (5), whose
values (1) have a tag (1) and a float (2).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, reflected
_MASK: Final = 0xA282EAD8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class EventFile:
    """One file; a line of numbers is on disk, for whoever reads along, when `add` returns."""

    def __init__(self, path: Path, *, at: float) -> None:
        """Make a new file.

        Args:
            path: A file that does not exist; TensorBoard wants `tfevents` in its name.
            at: Unix time.
        """
        self._file = path.open("xb", buffering=0)
        self._write(_event(at, 0) + _field(3, _BYTES) + _sized(b"brain.Event:2"))

    def add(self, scalars: Mapping[str, float], *, step: int, at: float) -> None:
        """Append numbers by their tags."""
        values = b"".join(
            _field(1, _BYTES)
            + _sized(
                _field(1, _BYTES) + _sized(tag.encode()) + _field(2, _FIXED32) + struct.pack("<f", value)
            )
            for tag, value in scalars.items()
        )
        self._write(_event(at, step) + _field(5, _BYTES) + _sized(values))

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def _write(self, content: bytes) -> None:
        length = struct.pack("<Q", len(content))
        record = (length, struct.pack("<I", checksum(length)), content, struct.pack("<I", checksum(content)))
        self._file.write(b"".join(record))


def checksum(content: bytes) -> int:
    """Return the masked CRC-32C of some bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _row(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (_POLYNOMIAL if index & 1 else 0)
    return index


_TABLE: Final = tuple(map(_row, range(256)))


def _event(at: float, step: int) -> bytes:
    return _field(1, _FIXED64) + struct.pack("<d", at) + _field(2, _VARINT) + _varint(step)


def _field(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _sized(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
