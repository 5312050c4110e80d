"""A notebook shows a running experiment in one output that changes in place, and an experiment as a table with its chart."""

from __future__ import annotations

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from rich.console import Console

from researcher.history import History
from researcher.monitoring import RunEnded, TerminalView
from tests.support.events import EVENTS, record
from tests.support.experiments import make
from tests.support.fake_node import Place, Trial


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """What a cell puts out: each data with its id, and whether it is in place of an earlier one."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(InteractiveShell, "display_pub_class", CapturingDisplayPublisher)
    monkeypatch.setattr(InteractiveShell, "atexit_operations", lambda shell: None)
    shell = InteractiveShell.instance(config=None)
    shell.history_manager.enabled = False
    yield shell.display_pub.outputs
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def show(events, *, quiet=False):
    view = TerminalView(Console(force_jupyter=True, highlight=False), quiet=quiet)
    for event in events:
        view.on_event(event)


def test_a_run_takes_one_output_however_many_rounds_it_has(outputs):
    started, opened, *happened, _ = EVENTS
    show([started, *([opened, *happened] * 50), RunEnded(50, None, 25.0)])

    (first, *later) = outputs
    assert 1 == len({one["transient"]["display_id"] for one in outputs})
    assert (False, {True}) == (bool(first.get("update")), {one["update"] for one in later})
    assert len(later) < 50
    text, html = later[-1]["data"]["text/plain"], later[-1]["data"]["text/html"]
    assert text.startswith("heart [1] · round 1 of 2 · 1 of 2 nodes ━")
    for shown in ("north", "50 rounds in 25.00 s, loss 0.4375", "refused, not finite"):
        assert shown in text
        assert shown in html
    assert len(text.splitlines()) < 30


def test_what_others_named_cannot_become_markup_of_the_page(outputs):
    started, *rest = EVENTS
    show([type(started)(started.experiment, "<script>[red]", *(started.run, started.nodes, 1, 2)), *rest])

    assert "<script>" not in outputs[-1]["data"]["text/html"]
    assert "&lt;script&gt;[red]" in outputs[-1]["data"]["text/html"]


def test_a_second_run_has_an_output_of_its_own(outputs):
    show([*EVENTS, *EVENTS])

    assert 2 == len({one["transient"]["display_id"] for one in outputs})


def test_quiet_shows_what_goes_wrong_and_nothing_else(outputs, capsys):
    show(EVENTS, quiet=True)

    assert "refused, not finite" in "".join(one["data"]["text/plain"] for one in outputs)
    assert not any(one.get("update") for one in outputs)


def test_an_experiment_shows_where_it_stands_and_its_losses(tmp_path):
    trial = Trial(tmp_path / "nodes")
    for node in ("north", "south"):
        trial.start(node)
    with Place(trial, tmp_path / "home") as place:
        place.settle()
        experiment = make(place, round_limit=2)
        before = experiment._repr_html_()
        experiment.run()
        after = experiment._repr_html_()
        experiment.close()
    trial.close()

    assert "0 of 2" in before
    assert "<svg" not in before
    assert "2 of 2" in after
    assert "finished" in after
    assert "north" in after
    assert "<svg" in after


def test_a_history_shows_its_last_rounds(tmp_path):
    html = History([record()] * 100)._repr_html_()

    assert 30 == html.count("closed")
    assert "and 70 earlier" in html
    assert "0.4375" in html
