"""The demo's files are complete, safe to open, and say what happened."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deploy.demo.baselines import Site, pooled_optimum
from deploy.demo.chart import loss_chart
from deploy.demo.hospitals import NAMES, hospitals
from deploy.demo.report import CHART, REPORT, RESULTS, page, write_files
from deploy.demo.results import Clockings, Results, RoundFacts
from deploy.demo.table import OVERALL, reading, rows, terminal_view

EVIL = "<script>alert(\"&')</script>"
LOSS = st.none() | st.floats(0, 1e6)


class Elements(HTMLParser):
    """Remembers tags and attributes, and insists that they close in order."""

    VOID = frozenset({"meta", "br", "line", "rect", "path"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert tag == self.open.pop()


def parsed(picture):
    return ElementTree.fromstring(picture)  # noqa: S314  our own


@pytest.fixture(scope="module")
def results():
    sites = {name: Site.of(hospital) for name, hospital in hospitals().items()}
    samples = {name: len(site.train) for name, site in sites.items()}
    return Results(
        broker="memory",
        rounds=[RoundFacts(0.01 * number, dict.fromkeys(NAMES, 1 / number), samples) for number in (1, 2, 3)],
        validated={"cleveland": 0.75, "hungary": None},
        model=pooled_optimum(sites),
        plan_hash="ab" * 32,
        clockings=Clockings(1.0, 2.0, 3.0, 4.0),
    )


def test_the_document_holds_everything_that_is_promised(results):
    document = json.loads(json.dumps(results.document(), allow_nan=False))
    assert (document["broker"], document["rounds"]) == ("memory", 3)
    assert document["round_s"] == [0.01, 0.02, 0.03]
    assert list(document["sites"]) == list(NAMES)
    for site in document["sites"].values():
        assert site.keys() >= {"n_train", "n_test", "accuracy", "auc"}
    overall = {"accuracy_mean", "auc_pooled", "train_log_loss"}
    assert document["global"].keys() >= overall
    assert document["pooled_optimum"].keys() >= overall
    assert {name: type(one["accuracy"]) for name, one in document["local_only"].items()} == dict.fromkeys(
        NAMES, float
    )
    assert document["loss"]["mean"] == pytest.approx([1, 1 / 2, 1 / 3])
    assert document["clockings"]["first_round_closed_s"] == 3.0


def test_a_round_without_a_loss_leaves_a_gap(results):
    silent = replace(results, rounds=[RoundFacts(0.1, dict.fromkeys(NAMES), dict.fromkeys(NAMES, 10))])
    assert silent.mean_losses == [None]
    assert json.loads(json.dumps(silent.document(), allow_nan=False))["loss"]["mean"] == [None]


def test_the_table_compares_the_model_with_itself_when_it_is_the_optimum(results):
    for row in rows(results):
        for federated, _, pooled in row.measures:
            assert federated == pooled
    assert rows(results)[-1].name == OVERALL
    assert (rows(results)[-1].n_train, rows(results)[-1].n_test) == (486, 254)


def test_the_table_fits_a_terminal_of_80_columns(results):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(terminal_view(results))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "0.750 0.731 0.750" in text
    assert "…" not in text


def test_files_of_an_earlier_run_are_replaced_and_nothing_else_is_left(results, tmp_path):
    (tmp_path / RESULTS).write_text("old")
    write_files(results, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([RESULTS, CHART, REPORT])
    assert json.loads((tmp_path / RESULTS).read_text())["rounds"] == 3
    parsed((tmp_path / CHART).read_text())


def test_the_page_is_well_formed_loads_nothing_and_runs_nothing(results):
    text = page(results, loss_chart(results.losses, results.mean_losses))
    found = Elements(text)
    assert found.open == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "src"]
    assert {value for name, value in found.attributes if name == "href"} == {
        "https://doi.org/10.24432/C52P4X",
        "https://creativecommons.org/licenses/by/4.0/",
    }
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_the_page_says_where_its_table_comes_from_and_whose_the_data_is(results):
    text = page(results, "<svg/>")
    for words in ("computed on this machine", "CC BY 4.0", "Janosi", "Steinbrunn", "Pfisterer", "Detrano"):
        assert words in text


def test_every_text_of_the_page_is_escaped(results):
    text = page(replace(results, plan_hash=EVIL), "<svg/>")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_names_in_the_chart_are_escaped():
    picture = loss_chart({EVIL: [1.0, 0.5]}, [1.0, 0.5])
    root = parsed(picture)
    assert EVIL in "".join(root.itertext())
    assert "<script" not in picture


def test_the_same_losses_give_the_same_bytes():
    losses = {"a": [1.0, 0.5], "b": [None, 0.25]}
    assert loss_chart(losses, [1.0, 0.4]) == loss_chart(losses, [1.0, 0.4])


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(LOSS, max_size=40), max_size=6),
    st.lists(LOSS, max_size=40),
)
def test_any_losses_make_a_well_formed_chart_with_every_point_inside(losses, mean):
    root = parsed(loss_chart(losses, mean))
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        points = path.get("d").replace("h0", "").replace("L", "M").split("M")[1:]
        for point in points:
            x, y = map(float, point.split())
            assert math.isfinite(x + y)
            assert 0 <= x <= 760
            assert 0 <= y <= 400


def test_labels_in_the_chart_do_not_touch():
    same = {name: [1.0, 0.5] for name in ("a", "b", "c", "d")}
    root = parsed(loss_chart(same, [1.0, 0.5]))
    places = [
        float(text.get("y"))
        for text in root.iter("{http://www.w3.org/2000/svg}text")
        if text.get("class").startswith("name")
    ]
    assert len(places) == 5
    assert np.diff(sorted(places)).min() >= 14.9


def test_the_reading_names_each_hospitals_model(results):
    for name in NAMES:
        assert f"({name})" in reading(results)
