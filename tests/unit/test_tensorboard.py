"""TensorBoard finds the scalars of each node and of all together, by rounds, also after a resume."""

import struct

import pytest

from common.clock import SystemClock
from researcher.monitoring import RoundOpened, TensorBoard
from researcher.monitoring.event_file import EventFile, checksum
from tests.support.events import EVENTS
from tests.support.experiments import Death, crash, dying, make
from tests.support.fake_node import Place, Trial


def unmasked(crc):
    crc = (crc - 0xA282EAD8) & 0xFFFFFFFF
    return (crc << 15 | crc >> 17) & 0xFFFFFFFF


def varint(content, at):
    value = shift = 0
    while True:
        byte, at = content[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(content):
    """Yield number and value of each field of a protocol buffer."""
    at = 0
    while at < len(content):
        key, at = varint(content, at)
        match key & 7:
            case 0:
                value, at = varint(content, at)
            case 1:
                value, at = struct.unpack_from("<d", content, at)[0], at + 8
            case 2:
                size, at = varint(content, at)
                value, at = content[at : at + size], at + size
            case 5:
                value, at = struct.unpack_from("<f", content, at)[0], at + 4
        yield key >> 3, value


def records(path):
    """Yield the contents of the records of a file, whose checksums must be right."""
    left = path.read_bytes()
    while left:
        (size,) = struct.unpack_from("<Q", left)
        content = left[12 : 12 + size]
        assert struct.pack("<I", checksum(left[:8])) == left[8:12]
        assert struct.pack("<I", checksum(content)) == left[12 + size : 16 + size]
        yield content
        left = left[16 + size :]


def scalars(folder):
    """Return every scalar of the files of a folder as {tag: {step: value}}."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for number, content in enumerate(records(path)):
            event = dict(fields(content))
            if number == 0:
                assert b"brain.Event:2" == event[3]
                continue
            for _, value in fields(event[5]):
                one = dict(fields(value))
                found.setdefault(one[1].decode(), {})[event[2]] = one[2]
    return found


def test_the_checksum_is_crc_32c():
    assert 0xE3069283 == unmasked(checksum(b"123456789"))  # the check value of its definition


def test_what_was_written_is_there_at_once(tmp_path):
    file = EventFile(tmp_path / "events.out.tfevents.1", at=1.5)
    file.add({"loss": 0.5, "a/b": 1e9}, step=300, at=2.5)

    assert {"loss": {300: 0.5}, "a/b": {300: 1e9}} == scalars(tmp_path)
    file.close()


def test_each_node_and_all_together_have_a_line(tmp_path):
    board = TensorBoard(tmp_path, clock=SystemClock())
    for event in EVENTS:
        board.on_event(event)
    (experiment,) = tmp_path.iterdir()

    assert experiment.name.startswith("heart-1-")
    assert {"global", "north"} == {path.name for path in experiment.iterdir()}  # south was refused
    assert {1: 0.25} == scalars(experiment / "north")["loss"]
    assert {1: pytest.approx(0.4375)} == scalars(experiment / "global")["loss"]
    assert {1: 2.0} == scalars(experiment / "global")["nodes"]


def test_a_resumed_experiment_goes_on_in_its_lines(tmp_path):
    trial = Trial(tmp_path / "nodes", ("north",))
    trial.start("north")
    try:
        with Place(trial, tmp_path / "home") as place:
            experiment = make(place, observers=(TensorBoard(tmp_path / "board"),), round_limit=4)
            dying(experiment, RoundOpened, 3)
            with pytest.raises(Death):
                experiment.run()
            folder = experiment.folder
            crash(place)
        with Place(trial, tmp_path / "home") as place:
            place.settle()
            board = TensorBoard(tmp_path / "board")
            with type(experiment).resume(folder, federation=place, observers=(board,)) as resumed:
                resumed.run()
                losses = {one.round: one.nodes["north"].loss for one in resumed.history()}
    finally:
        trial.close()
    (line,) = (tmp_path / "board").glob("*/north")

    assert 2 == len(list(line.iterdir()))
    assert losses == scalars(line)["loss"]
    assert [1, 2, 3, 4] == list(losses)
