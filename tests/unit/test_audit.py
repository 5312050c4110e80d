"""An audit log in which nothing can be changed unnoticed."""

import json
import multiprocessing
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.audit.anchor import Anchor, anchor_path, read_anchor
from common.audit.log import AuditLog
from common.audit.record import FIRST, Action, Entry, chained, read_chain
from common.audit.syslog import Forwarder
from common.audit.verify import export, read_records, verify
from common.clock import ManualClock
from common.errors import AuditBrokenError, InvalidSettingsError
from common.ids import PartyId

NORTH = PartyId("north")


def entry(number):
    return Entry(action=Action.TASK_ASKED, actor="lab", round=number, note="seen by Dr. Novák")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def log(folder):
    return AuditLog(folder, NORTH, clock=ManualClock())


def file_of(folder):
    (path,) = folder.glob("*.jsonl")
    return path


def lines_of(folder):
    return file_of(folder).read_bytes().splitlines(keepends=True)


def refused(folder, *anchors):
    with pytest.raises(AuditBrokenError) as caught:
        verify(folder, *anchors)
    return caught.value.facts["reason"]


# The chain


def test_a_log_begins_with_a_record_of_its_own_and_keeps_the_order(log, folder):
    log.append(entry(1), entry(2))
    log.append(entry(3))

    found = list(read_records(folder))

    assert [Action.LOG_BEGUN] + 3 * [Action.TASK_ASKED] == [record.action for record in found]
    assert [None, 1, 2, 3] == [record.round for record in found]
    assert [0, 1, 2, 3] == [record.number for record in found]
    assert [FIRST] + [record.sha256 for record in found[:-1]] == [record.previous for record in found]
    assert {"north"} == {record.party for record in found}


def test_a_log_in_order_is_found_in_order(log, folder):
    log.append(*map(entry, range(5)))

    verdict = verify(folder)

    assert (6, 5, 0) == (verdict.records, verdict.anchored, verdict.unfinished_bytes)
    assert verdict.end == read_anchor(folder)


def test_nobody_else_can_read_a_log(log, folder):
    log.append(entry(1))

    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (file_of(folder), anchor_path(folder))}


def test_a_line_is_canonical_json_that_other_programs_can_check(log, folder):
    log.append(entry(1))

    stated = json.loads(lines_of(folder)[1])

    assert json.dumps(stated, sort_keys=True, separators=(",", ":")).encode() + b"\n" == lines_of(folder)[1]
    assert lines_of(folder)[1].isascii()


CHAIN = []
for number in range(6):
    previous = CHAIN[-1][0] if CHAIN else FIRST
    CHAIN.append(chained(entry(number), number=number, at=1.5, party=NORTH, previous=previous))
LINES = [line for _, line in CHAIN]


def intact(lines):
    try:
        return [record.number for record in read_chain(lines, source="test")]
    except AuditBrokenError:
        return None


@given(st.integers(0, 5), st.data())
def test_a_record_that_was_changed_anywhere_is_noticed(which, data):
    line = bytearray(LINES[which])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))

    assert intact([*LINES[:which], bytes(line), *LINES[which + 1 :]]) is None


@given(st.permutations(range(6)))
def test_records_in_another_order_are_noticed(order):
    expected = None if list(order) != list(range(6)) else list(order)

    assert expected == intact([LINES[number] for number in order])


@given(st.sets(st.integers(0, 5), min_size=1))
def test_a_record_that_is_missing_anywhere_but_at_the_end_is_noticed(missing):
    left = [LINES[number] for number in range(6) if number not in missing]
    at_the_end = missing == set(range(6 - len(missing), 6))

    assert (list(range(len(left))) if at_the_end else None) == intact(left)


def test_a_record_that_was_inserted_or_doubled_is_noticed():
    _, line = chained(entry(99), number=3, at=1.5, party=NORTH, previous=CHAIN[2][0])

    assert intact([*LINES[:3], line, *LINES[3:]]) is None
    assert intact([*LINES[:3], line, *LINES[4:]]) is None
    assert intact([*LINES[:3], LINES[2], *LINES[3:]]) is None


def test_a_record_with_white_space_or_a_field_twice_is_noticed():
    assert intact([b" " + LINES[0], *LINES[1:]]) is None
    assert intact([LINES[0].replace(b'{"action"', b'{"note":"x","action"', 1), *LINES[1:]]) is None


# The end of a log, and who vouches for it


def test_an_end_that_was_cut_off_is_noticed_by_the_anchor(log, folder):
    log.append(entry(1), entry(2))
    file_of(folder).write_bytes(b"".join(lines_of(folder)[:-1]))

    assert "an anchor names record 2" in refused(folder)


def test_a_log_that_was_written_anew_is_noticed_by_the_anchor(log, folder, tmp_path):
    log.append(entry(1), entry(2))
    other = AuditLog(tmp_path / "other", NORTH, clock=ManualClock())
    other.append(entry(1), entry(3))
    file_of(folder).write_bytes(file_of(tmp_path / "other").read_bytes())

    assert "not the one that an anchor names" in refused(folder)


def test_a_log_that_was_written_anew_with_its_anchor_is_noticed_by_one_that_was_noted_elsewhere(
    log, folder, tmp_path
):
    log.append(entry(1), entry(2))
    noted = Anchor.parse(str(read_anchor(folder)))
    other = AuditLog(tmp_path / "other", NORTH, clock=ManualClock())
    other.append(entry(1), entry(3), entry(4))
    file_of(folder).write_bytes(file_of(tmp_path / "other").read_bytes())
    anchor_path(folder).write_bytes(anchor_path(tmp_path / "other").read_bytes())

    assert 4 == verify(folder).records - 0  # by itself it looks in order
    assert "not the one that an anchor names" in refused(folder, noted)


def test_a_log_or_an_anchor_that_is_gone_is_noticed(log, folder):
    log.append(entry(1), entry(2))
    anchor = anchor_path(folder).read_bytes()
    anchor_path(folder).unlink()
    assert "its anchor is missing" == refused(folder)
    anchor_path(folder).write_bytes(anchor)
    file_of(folder).unlink()

    assert "it has 0 records" in refused(folder)


@pytest.mark.parametrize("text", ["", "7", "7:ff", "x:" + 64 * "0", "-1:" + 64 * "0"])
def test_what_is_no_anchor_is_refused(text):
    with pytest.raises(AuditBrokenError):
        Anchor.parse(text)


def test_nothing_is_appended_to_a_log_that_lost_its_end(log, folder):
    log.append(entry(1), entry(2))
    file_of(folder).write_bytes(b"".join(lines_of(folder)[:-1]))
    before = file_of(folder).read_bytes()

    for writer in (log, AuditLog(folder, NORTH)):
        with pytest.raises(AuditBrokenError):
            writer.append(entry(3))

    assert before == file_of(folder).read_bytes()


@pytest.mark.parametrize("cut_off", [18, 5000], ids=["shorter than what is written next", "longer"])
def test_a_record_that_a_crash_cut_off_is_removed_and_the_log_says_so(log, folder, cut_off):
    log.append(entry(1))
    with file_of(folder).open("ab") as file:
        file.write(b'{"action":"task_as'.ljust(cut_off, b"k"))
    assert cut_off == verify(folder).unfinished_bytes

    AuditLog(folder, NORTH).append(entry(2))

    found = list(read_records(folder))
    assert [Action.LOG_REPAIRED, Action.TASK_ASKED] == [record.action for record in found[-2:]]
    assert cut_off == found[-2].bytes
    assert (4, 0) == (verify(folder).records, verify(folder).unfinished_bytes)


def test_what_was_not_synced_is_vouched_for_by_the_next_durable_append(log, folder):
    log.append(entry(1))
    log.append(entry(2), durable=False)
    assert 1 == verify(folder).anchored

    log.append(entry(3))

    assert 3 == verify(folder).anchored


# Rotation


def test_the_chain_goes_on_from_file_to_file(folder):
    log = AuditLog(folder, NORTH, file_bytes=1000)
    for number in range(20):
        log.append(entry(number), durable=number % 2 == 0)

    assert len(list(folder.glob("*.jsonl"))) > 3
    assert 21 == verify(folder).records
    assert [None, *range(20)] == [record.round for record in read_records(folder)]


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_file_that_is_missing_is_noticed(folder, which):
    log = AuditLog(folder, NORTH, file_bytes=1000)
    for number in range(20):
        log.append(entry(number))
    sorted(folder.glob("*.jsonl"))[which].unlink()

    assert refused(folder)


def test_an_export_is_one_file_that_can_be_checked_by_itself(folder, tmp_path):
    log = AuditLog(folder, NORTH, file_bytes=1000)
    for number in range(20):
        log.append(entry(number))

    export(folder, tmp_path / "export.jsonl")

    assert list(read_records(folder)) == list(read_records(tmp_path / "export.jsonl"))
    assert verify(folder).end == verify(tmp_path / "export.jsonl").end


# Several writers


def test_a_writer_sees_that_another_has_begun_the_next_file(folder):
    writers = [AuditLog(folder, NORTH, file_bytes=1) for _ in range(2)]
    for number in range(6):
        writers[number % 2].append(entry(number))

    assert 6 == len(list(folder.glob("*.jsonl")))
    assert [None, *range(6)] == [record.round for record in read_records(folder)]


def _append_many(folder, writer):
    log = AuditLog(folder, NORTH, file_bytes=4000)
    for number in range(20):
        log.append(Entry(action=Action.TASK_ASKED, actor=f"writer-{writer}", round=number), durable=False)


def test_processes_and_threads_that_write_at_once_make_one_chain(folder):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(folder, f"process-{n}")) for n in range(2)]
    threads = [threading.Thread(target=_append_many, args=(folder, f"thread-{n}")) for n in range(3)]
    for one in (*processes, *threads):
        one.start()
    for one in (*processes, *threads):
        one.join(60)

    found = [record for record in read_records(folder) if record.action is Action.TASK_ASKED]
    assert 100 == len(found)
    for actor in {record.actor for record in found}:
        assert list(range(20)) == [record.round for record in found if record.actor == actor]


# Syslog


def test_records_are_told_to_a_syslog_as_they_are(folder, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "log"))
        system.settimeout(10)
        forward = Forwarder(str(tmp_path / "log"))
        AuditLog(folder, NORTH, forward=forward).append(entry(1))
        told = [system.recv(65536) for _ in range(2)]
        forward.close()

    assert [b"<86>warren-audit: " + line.rstrip(b"\n") for line in lines_of(folder)] == told


def test_records_are_told_to_another_machine(folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(10)
        forward = Forwarder(f"udp://127.0.0.1:{other.getsockname()[1]}")
        AuditLog(folder, NORTH, forward=forward).append(entry(1))
        told = other.recv(65536)
        forward.close()

    assert lines_of(folder)[0].rstrip(b"\n") in told


def test_a_syslog_that_is_not_there_or_does_not_read_stops_nothing(folder, tmp_path, caplog):
    forward = Forwarder(str(tmp_path / "log"))
    log = AuditLog(folder, NORTH, forward=forward)
    log.append(entry(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "log"))
        for number in range(600):  # more than the kernel keeps for a socket that nobody reads
            log.append(entry(number), durable=False)
    forward.close()

    assert 602 == verify(folder).records
    assert "audit record not forwarded" in caplog.text


def test_a_syslog_host_that_is_not_known_is_a_mistake_in_the_settings():
    with pytest.raises(InvalidSettingsError):
        Forwarder("udp://nowhere.invalid:514")
