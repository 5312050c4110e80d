"""What is drawn of a data set is what is in it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from node.views.pictures import MOST, SIDE, sheet
from node.views.summaries import BINS, CLASSES, column, summary
from node.views.traces import PIECES, envelope, traces
from tests.support.recordings import write_recording


def test_a_histogram_counts_every_number_once():
    values = np.random.default_rng(1).normal(size=1000)
    bars = column(pl.Series("x", [*values, None, float("nan")]))

    assert (True, BINS, 1000, 2) == (bars.ordered, len(bars.counts), sum(bars.counts), bars.missing)


def test_the_range_of_the_largest_numbers_is_drawn():
    bars = column(pl.Series("x", [-1.7e308, 0.0, 1.7e308]))

    assert (BINS, 3, "-1.7e+308") == (len(bars.counts), sum(bars.counts), bars.labels[0].partition(" ")[0])


@pytest.mark.parametrize(
    ("values", "labels", "counts"),
    [
        (pl.Series("x", ["b", "a", None, "b"]), ("a", "b"), (1, 2)),
        (pl.Series("x", [1, 0, 1, None]), ("0", "1"), (1, 2)),
        (pl.Series("x", [True, None, False]), ("False", "True"), (1, 1)),
        (pl.Series("x", [], pl.Float64), (), ()),
        (pl.Series("x", [None, None], pl.Int64), (), ()),
        (pl.Series("x", [2.5, 2.5]), ("2.5",), (2,)),
        (pl.Series("x", [float("inf"), 1.0, 1.0]), ("1",), (2,)),
    ],
)
def test_few_values_are_counted_each(values, labels, counts):
    bars = column(values)

    assert (labels, counts) == (bars.labels, bars.counts)


def test_of_many_classes_the_most_frequent_are_drawn():
    bars = column(pl.Series("x", [f"c{number:02d}" for number in range(30) for _ in range(number + 1)]))

    assert CLASSES == len(bars.labels)
    assert ("c29", 30) == (bars.labels[0], bars.counts[0])
    assert sum(range(1, 31)) == sum(bars.counts) + bars.others


def test_rows_that_must_not_be_used_are_not_counted(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("id,sex\np1,F\np2,M\np3,M\n")
    found = summary(file, "tabular", {"id_column": "id", "leave_out": ["p2"]})

    assert (2, ["sex"]) == (found.samples, [bars.name for bars in found.bars])
    assert (1, 1) == found.bars[0].counts


def test_an_envelope_loses_no_peak():
    values = np.zeros(100_000)
    values[[7, 54_321]] = 9.0, -9.0
    low, high = envelope(values)

    assert (PIECES, -9.0, 9.0) == (len(low), min(low), max(high))


def test_a_recording_is_drawn_by_the_names_of_plans(tmp_path):
    write_recording(tmp_path / "rest" / "a.edf", {"EEG Fp1": (100.0, np.sin(np.arange(1000) / 10) * 50)})
    (drawn,) = traces(tmp_path, "signals", {"channels": {"fp1": ["EEG Fp1"]}})

    assert ("fp1", "uV", 10.0) == (drawn.name, drawn.unit, drawn.seconds)
    assert max(drawn.high) == pytest.approx(50, abs=0.1)


def test_a_sheet_shows_all_classes_in_turn_and_no_more_than_fit(tmp_path):
    for label, shade in (("dark", 10), ("light", 250)):
        (tmp_path / label).mkdir()
        for number in range(MOST):
            Image.new("L", (40, 20), shade).save(tmp_path / label / f"{number:02d}.png")
    found = sheet(tmp_path, "images", {})
    (tmp_path / "sheet.png").write_bytes(found.png)
    with Image.open(tmp_path / "sheet.png") as image:
        pixel = [image.getpixel((x + SIDE // 2, SIDE // 2))[0] < 128 for x in (0, SIDE + 8)]

    assert (MOST, ("dark/00.png", "light/00.png")) == (len(found.tiles), found.tiles[:2])
    assert [True, False] == pixel


@pytest.mark.parametrize("data_type", ["tabular", "custom"])
def test_what_has_no_pictures_has_no_sheet(data_type):
    assert sheet(Path("nowhere"), data_type, {}) is None
