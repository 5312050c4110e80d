"""Recordings become windows of one rate, and a broken or a telling one does not get in unnoticed."""

import numpy as np
import pytest

from common.data import DataManager
from common.datasets import SignalDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.errors import (
    DataFileError,
    IdentifiedPatientsError,
    InvalidArgumentsError,
    MissingExtraError,
    UnknownColumnError,
)
from tests.support.recordings import write_recording

STEPS = np.repeat(np.arange(8.0), 10)
"""Eight seconds at 10 Hz, whose value is the second."""


@pytest.fixture
def sleep(tmp_path):
    root = tmp_path / "sleep"
    for name in ("ill/a.edf", "ill/b.edf", "well/c.edf"):
        notes = [(0.0, 4.0, "W"), (4.0, 2.0, "N1"), (6.0, 2.0, "odd")]
        write_recording(root / name, {"EEG Fpz": (10, STEPS), "EMG": (20, np.repeat(STEPS, 2))}, notes=notes)
    return root


def inspected(path, **options):
    kind = family("signals")
    return kind.inspect(path, parsed(kind.options, options))


def bound(path, channels=("EEG Fpz",), parameters=None, **options):
    dataset = SignalDataset(list(channels), **{"rate": 10, "window_s": 2} | options)
    dataset.bind(path, parameters or {})
    return dataset


def test_recordings_are_described_by_rate_and_unit_of_their_channels(sleep):
    write_recording(sleep / "well" / "d.edf", {"EMG": (20, STEPS)})

    found = inspected(sleep)

    assert (4, (4,), ("ill", "well")) == (found.samples, found.shape, found.classes)
    assert [
        ("EEG Fpz", "signal 10 Hz", 1, "uV"),
        ("EMG", "signal 20 Hz", 0, "uV"),
        ("recording.duration", "4 to 8 s", 0, ""),
        ("recording.annotations", "annotations", 1, ""),
    ] == [(column.name, column.dtype, column.missing, column.unit) for column in found.columns]


def test_windows_lie_evenly_from_beginning_to_end(sleep):
    data, target = bound(sleep, windows=3)[2]

    assert ((3, 1, 20), np.float32, 1) == (data.shape, data.dtype, target)
    np.testing.assert_allclose(data[:, 0, [0, -1]], [[0, 1], [3, 4], [6, 7]], atol=0.01)


def test_channels_of_another_rate_are_resampled(sleep):
    data, _ = bound(sleep, ["EMG", "EEG Fpz"], window_s=8)[0]

    assert (1, 2, 80) == data.shape
    middle = np.arange(85) % 10 == 5
    np.testing.assert_allclose(data[0, 0][middle[:80]], data[0, 1][middle[:80]], atol=0.2)


def test_what_a_recording_is_too_short_for_is_filled_with_zeros(sleep):
    data, _ = bound(sleep, window_s=10)[0]

    assert ((1, 1, 100), 0.0) == (data.shape, abs(data[0, 0, 80:]).max())
    assert data[0, 0, 79] > 6


def test_annotations_give_the_class_of_each_window(sleep):
    _, target = bound(sleep, windows=4, annotations=["N1", "W"])[0]

    assert [1, 1, 0, -100] == target.tolist()
    assert np.int64 == target.dtype


def test_names_of_a_hospital_are_mapped_to_those_of_the_plan(sleep):
    channels = {"channels": {"Fpz": ["EEG Fpz", "Fpz-Cz"]}}

    assert ["EMG", "Fpz"] == [column.name for column in inspected(sleep, **channels).columns][:2]
    assert (1, 1, 20) == bound(sleep, ["Fpz"], channels)[0][0].shape
    with pytest.raises(UnknownColumnError, match="no column 'EEG Fpz'; there are Fpz, EMG"):
        bound(sleep, parameters=channels)[0]


def test_a_table_can_give_values_to_predict(sleep):
    (sleep / "ages.csv").write_text("file,label\nwell/c.edf,70.5\nill/a.edf,60\n")

    dataset = bound(sleep, parameters={"table": "ages.csv"}, transform=lambda x: x[0], target_transform=float)

    assert [(1, 20), 70.5, 60.0] == [dataset[0][0].shape, dataset[0][1], dataset[1][1]]
    assert 2 == inspected(sleep, table="ages.csv").samples


def test_recordings_come_in_batches(sleep):
    manager = DataManager(bound_later := SignalDataset(["EMG"], rate=20, window_s=1, windows=2), batch_size=4)
    manager.bind(sleep, {"leave_out": ["ill/a.edf"]}, data_type="signals")

    ((data, target),) = list(manager.split(test_ratio=0, seed=1, loader_args={"shuffle": False}).train)

    assert ((2, 2, 1, 20), [0, 1]) == (tuple(data.shape), target.tolist())
    assert 2 == len(set(bound_later.sample_ids().tolist()))


def test_headers_that_name_a_patient_are_refused_unless_allowed(sleep):
    write_recording(sleep / "ill" / "b.edf", {"EMG": (20, STEPS)}, patient="Jane_Doe")

    with pytest.raises(
        IdentifiedPatientsError, match=r"1 or more files .* patient: .*patient name"
    ) as caught:
        inspected(sleep)

    assert "Doe" not in str(caught.value)
    assert 3 == inspected(sleep, identified="allow").samples


def test_the_one_field_of_plain_edf_is_searched_too(sleep):
    path = write_recording(sleep / "ill" / "b.edf", {"EMG": (20, STEPS)}, plain=True)
    assert 3 == inspected(sleep).samples
    content = path.read_bytes()
    path.write_bytes(content[:8] + b"Jane Doe 1970".ljust(80) + content[88:])

    with pytest.raises(IdentifiedPatientsError, match=r"what identifies a patient: patient$"):
        inspected(sleep)


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def misstate(path):
    content = path.read_bytes()
    path.write_bytes(content[:252] + b"abcd" + content[256:])  # the number of channels


@pytest.mark.parametrize(
    "damage",
    [cut, misstate, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"no recording" * 99)],
    ids=["short", "header", "empty", "noise"],
)
def test_a_broken_recording_is_refused_by_name_or_left_out_and_counted(sleep, damage):
    damage(sleep / "ill" / "b.edf")

    with pytest.raises(
        DataFileError, match=r"1 of 3 samples cannot be read, the first is ill/b\.edf: its header"
    ):
        inspected(sleep)
    found = inspected(sleep, on_broken="skip")

    assert (2, ["ill/b.edf"]) == (found.samples, list(found.broken))
    assert 2 == len(bound(sleep, parameters={"broken": list(found.broken)}))


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"window_s": -1}, {"windows": 0}])
def test_rates_and_windows_must_be_positive(wrong):
    with pytest.raises(InvalidArgumentsError):
        SignalDataset(["EMG"], **{"rate": 1, "window_s": 1} | wrong)


def test_without_pyedflib_the_error_says_how_to_install_it(sleep, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyedflib", None)

    with pytest.raises(MissingExtraError) as caught:
        inspected(sleep)

    assert 'install it: pip install "warren-fl[signals]"' == caught.value.advice


def test_the_first_recordings_can_be_looked_at(sleep):
    kind = family("signals")

    (row,) = kind.preview(sleep, parsed(kind.options, {}), 1)

    assert ("ill/a.edf", "ill", 8.0, "EEG Fpz, EMG") == (
        row["file"],
        row["label"],
        row["seconds"],
        row["channels"],
    )
