import io
import json
import logging

import pytest

from common import logs


@pytest.fixture(autouse=True)
def _restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_one_json_document_per_line_with_the_facts():
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("node.agent").info("task started", extra={"action": "task_started", "task": "t1"})
    line = json.loads(stream.getvalue())
    assert ("info", "node.agent", "task started", "t1") == tuple(
        line[key] for key in ("level", "logger", "message", "task")
    )


def test_a_terminal_gets_words_and_facts():
    stream = Terminal()
    logs.configure(stream=stream)
    logging.getLogger("x").warning("queue full", extra={"queue": "inbox"})
    shown = stream.getvalue()
    assert "queue full" in shown
    assert "inbox" in shown


def test_what_others_chose_moves_no_terminal_and_begins_no_line():
    stream = Terminal()
    logs.configure(stream=stream)
    hostile = "north\x1b[2J\n00:00:00 info     all is well"
    try:
        int(hostile)
    except ValueError:
        logging.getLogger("x").exception("task not done", extra={"error": hostile})

    assert "north\\u{1b}[2J\\u{a}00:00:00" in stream.getvalue().splitlines()[0]
    assert "\x1b[2J" not in stream.getvalue()


def test_a_traceback_is_kept_on_the_same_json_line():
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        int("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["traceback"]


def test_what_is_shown_goes_where_standard_error_is_at_that_moment(monkeypatch):
    logs.configure()
    replaced = io.StringIO()
    monkeypatch.setattr("sys.stderr", replaced)
    logging.getLogger("x").warning("queue full")

    assert "queue full" in replaced.getvalue()


def test_a_file_keeps_more_than_is_shown_as_long_as_it_is_asked_to(tmp_path):
    stream, file = io.StringIO(), tmp_path / "researcher.jsonl"
    logs.configure(logging.WARNING, stream=stream)
    with logs.kept(file):
        logging.getLogger("x").info("round ended", extra={"round": 1})
    logging.getLogger("x").info("afterwards")

    assert "" == stream.getvalue()
    assert [("round ended", 1)] == [
        (one["message"], one["round"]) for one in map(json.loads, file.read_text().splitlines())
    ]


def test_a_file_is_rotated_and_old_ones_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_FILE_BYTES", 200)
    logs.configure(file=tmp_path / "agent.jsonl", stream=None)
    for number in range(50):
        logging.getLogger("x").info("one line", extra={"number": number})

    names = {"agent.jsonl", *(f"agent.jsonl.{number}" for number in range(1, 6))}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert 49 == json.loads((tmp_path / "agent.jsonl").read_text().splitlines()[-1])["number"]


def test_a_file_gets_json_also_beside_a_terminal(tmp_path):
    logs.configure(stream=Terminal(), file=tmp_path / "agent.jsonl")
    logging.getLogger("x").info("hello", extra={"size_bytes": 3})
    assert 3 == json.loads((tmp_path / "agent.jsonl").read_text())["size_bytes"]


def test_a_fact_that_json_does_not_know_is_written_as_text():
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("x").info("hello", extra={"where": {1}})
    assert "{1}" == json.loads(stream.getvalue())["where"]


def test_what_the_broker_library_shouts_is_left_to_the_transport():
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("pika.adapters").error("full-stack connection workflow failed")
    assert "" == stream.getvalue()
