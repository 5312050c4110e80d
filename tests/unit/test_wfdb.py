"""WFDB records give a plan what EDF recordings give, and what their headers say is not trusted."""

import shutil

import numpy as np
import pytest

from common.datasets import SignalDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.datasets.families.detection import detected
from common.datasets.wfdb import MOST_NOTES, MOST_TEXT
from common.errors import (
    DataFileError,
    IdentifiedPatientsError,
    InvalidDatasetError,
    MissingExtraError,
    UnknownColumnError,
)
from tests.support.recordings import write_record, write_recording

STEPS = np.repeat(np.arange(8.0), 10)
"""Eight seconds at 10 Hz, whose value is the second."""

BEATS = [
    (0.0, "+", "(N"),
    (0.5, "N", ""),
    (2.5, "V", ""),
    (4.0, "+", "(AFIB"),
    (4.5, "N", ""),
    (7.9, "|", ""),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The library writes slowly, so it does it once."""
    path = tmp_path_factory.mktemp("written")
    channels = {"MLII": (10, STEPS), "resp": (20, np.repeat(STEPS, 2))}
    return write_record(path / "a.hea", channels, notes=BEATS).parent


@pytest.fixture
def hearts(tmp_path, written):
    root = tmp_path / "hearts"
    for name in ("ill/a", "ill/b", "well/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".hea", ".dat", ".atr"):
            shutil.copy(written / f"a{suffix}", root / f"{name}{suffix}")
        rewrite(root / f"{name}.hea", "a.dat", f"{name[-1]}.dat")
    return root


def inspected(path, **options):
    kind = family("signals")
    return kind.inspect(path, parsed(kind.options, options))


def bound(path, channels=("MLII",), parameters=None, **options):
    dataset = SignalDataset(list(channels), **{"rate": 10, "window_s": 2} | options)
    dataset.bind(path, parameters or {})
    return dataset


def test_records_are_recognised_and_described_as_recordings_are(hearts):
    write_record(hearts / "well" / "d.hea", {"resp": (20, STEPS)})

    found = inspected(hearts)

    assert "signals" == detected(hearts)
    assert (4, (4,), ("ill", "well")) == (found.samples, found.shape, found.classes)
    assert [
        ("MLII", "signal 10 Hz", 1, "mV"),
        ("resp", "signal 20 Hz", 0, "mV"),
        ("recording.duration", "4 to 8 s", 0, ""),
        ("recording.annotations", "annotations", 1, ""),
    ] == [(column.name, column.dtype, column.missing, column.unit) for column in found.columns]


def test_a_plan_gets_the_same_from_both_formats(tmp_path, hearts):
    channels = {"resp": (20, np.repeat(STEPS, 2)), "MLII": (10, STEPS)}
    for name in ("ill/a.edf", "ill/b.edf", "well/c.edf"):
        write_recording(tmp_path / "edf" / name, channels)
    options = {"channels": ("MLII", "resp"), "windows": 3, "window_s": 1.5}

    ours, theirs = bound(hearts, **options), bound(tmp_path / "edf", **options)

    for (data, target), (other, same) in zip(
        map(ours.__getitem__, range(3)), map(theirs.__getitem__, range(3)), strict=True
    ):
        assert (other.shape, other.dtype, same) == (data.shape, data.dtype, target)
        np.testing.assert_allclose(other, data, atol=0.01)


@pytest.mark.parametrize("form", ["16", "24", "32", "80", "212", "508", "516", "524"])
def test_each_format_that_the_library_writes_is_read_from_any_place(tmp_path, form):
    values = np.random.default_rng(1).integers(-99, 99, 200) / 100
    write_record(tmp_path / "all" / "a.hea", {"x": (100, values), "y": (100, -values)}, form=form)

    data, _ = bound(tmp_path, ["y", "x"], rate=100, window_s=0.5, windows=4)[0]

    np.testing.assert_allclose(
        [[-values[start : start + 50], values[start : start + 50]] for start in (0, 50, 100, 150)],
        data,
        atol=1e-6,
    )


def test_a_format_of_differences_is_read_from_its_beginning(tmp_path):
    values = np.cumsum(np.random.default_rng(1).integers(-9, 9, 200))
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.dat").write_bytes(np.diff(values, prepend=0).astype(np.int8).tobytes())
    (tmp_path / "all" / "a.hea").write_text("a 1 100 200\na.dat 8 1 8 0 0 0 0 x\n")

    data, _ = bound(tmp_path, ["x"], rate=100, window_s=0.5, windows=4)[0]

    assert values.tolist() == data.flatten().tolist()


def test_values_that_a_file_marks_as_missing_are_zero(hearts):
    path = hearts / "ill" / "a.dat"
    raw = np.fromfile(path, "<i2")
    raw[:3] = -32768
    path.write_bytes(raw.tobytes())

    data, _ = bound(hearts, window_s=8)[0]

    assert ([0.0, 0.0, 7.0], 3) == (data[0, 0, [0, 1, -1]].tolist(), inspected(hearts).samples)


def test_units_of_voltage_are_converted_where_the_plan_names_one(tmp_path, hearts):
    write_recording(hearts / "ill" / "z.edf", {"MLII": (10, STEPS)})

    dataset = bound(hearts, window_s=8, unit="uV")

    assert [7000.0, 7.0] == [round(float(dataset[index][0].max()), 1) for index in (0, 2)]
    write_record(tmp_path / "gas" / "all" / "a.hea", {"CO2": (10, STEPS)}, unit="mmHg")
    with pytest.raises(UnknownColumnError, match="no column 'in uV'; there are one in mmHg"):
        bound(tmp_path / "gas", ["CO2"], unit="uV")[0]


# Annotations


def test_rhythms_hold_until_the_next_and_beats_are_moments(hearts):
    rhythms = bound(hearts, windows=4, annotations=["(N", "(AFIB"])[0][1]
    beats = bound(hearts, windows=4, annotations=["N", "V"], noted="within")[0][1]

    assert [0, 0, 1, 1] == rhythms.tolist()
    assert [0, 1, 0, -100] == beats.tolist()


def test_a_window_has_the_highest_class_that_occurs_in_it(hearts):
    dataset = bound(hearts, window_s=4, windows=2, annotations=["N", "V"], noted="within")
    other = bound(hearts, window_s=4, windows=2, annotations=["V", "N"], noted="within")

    assert ([1, 0], [1, 1]) == (dataset[0][1].tolist(), other[0][1].tolist())


def test_annotations_have_the_ending_that_the_hospital_says(hearts):
    (hearts / "ill" / "a.atr").rename(hearts / "ill" / "a.qrs")

    one = bound(hearts, annotations=["(N"])
    other = bound(hearts, annotations=["(N"], parameters={"annotator": "qrs"})

    assert ([-100], [0]) == (one[0][1].tolist(), other[0][1].tolist())
    for wrong in ("../well/c", "a/b", "", "1"):
        with pytest.raises(InvalidDatasetError, match="annotator"):
            inspected(hearts, annotator=wrong)


def test_damaged_or_huge_annotations_break_a_record(hearts):
    (hearts / "ill" / "a.atr").write_bytes(b"\xff" * 7)
    with (hearts / "ill" / "b.atr").open("wb") as file:
        file.truncate(MOST_NOTES + 1)

    found = inspected(hearts, on_broken="skip")

    assert {
        "ill/a.hea": "its annotations are damaged",
        "ill/b.hea": f"its annotations have more than {MOST_NOTES} bytes",
    } == found.broken


# Segments


@pytest.fixture
def long_record(tmp_path):
    folder = tmp_path / "long" / "all"
    for number, part in enumerate(np.split(STEPS, 2)):
        write_record(folder / f"m_{number}.hea", {"MLII": (10, part)})
    (folder / "m.hea").write_text("m/2 1 10 80\nm_0 40\nm_1 40\n")
    return folder


def test_segments_are_one_record_and_no_samples_of_their_own(long_record):
    data, _ = bound(long_record.parent, windows=3)[0]

    assert 1 == inspected(long_record.parent).samples
    np.testing.assert_allclose([[0, 1], [3, 4], [6, 7]], data[:, 0, [0, -1]])


def test_gaps_between_segments_are_zero(long_record):
    (long_record / "m_layout.hea").write_text("m_layout 1 10 0\n~ 0 100/mV 16 0 0 0 0 MLII\n")
    (long_record / "m.hea").write_text("m/4 1 10 100\nm_layout 0\nm_0 40\n~ 20\nm_1 40\n")

    data, _ = bound(long_record.parent, window_s=10)[0]

    assert [3.0, *[0.0] * 20, 4.0] == data[0, 0, 39:61].tolist()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("m/2 1 10 90\nm_0 40\nm_1 40\n", "its segments do not add up to its length"),
        ("m/2 1 10 90\nm_0 50\nm_1 40\n", "segment m_0 is shorter than announced"),
        ("m/2 1 10 80\nm_0 40\nm_9 40\n", "there is no such file"),
        ("m/2 1 10 80\nm_0 40\nm 40\n", "a segment has segments itself"),
        ("m/1 1 10 80\n~ 80\n", "all its segments are empty"),
        ("m/2 1 10 80\nm_0 40\n../x 40\n", "its header is wrong"),
    ],
)
def test_segments_that_do_not_fit_are_refused(long_record, header, reason):
    (long_record / "m.hea").write_text(header)
    (long_record.parent / "list.csv").write_text("file,label\nall/m.hea,x\n")

    with pytest.raises(DataFileError, match=f"the first is all/m.hea: .*{reason}"):
        inspected(long_record.parent, table="list.csv")


# What is not trusted


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


HOSTILE = {
    "no data": (lambda root: (root / "b.dat").unlink(), "there is no such file"),
    "cut": (lambda root: (root / "b.dat").write_bytes((root / "b.dat").read_bytes()[:-2]), "announces more samples than b.dat has"),
    "long": (lambda root: rewrite(root / "b.hea", " 80", " 99999999999999"), "announces more samples than b.dat has"),
    "wide": (lambda root: rewrite(root / "b.hea", "16x2", "16x2000000000"), "does not describe its channels"),
    "shifted": (lambda root: rewrite(root / "b.hea", "16x2", "16x2:9999999999"), "shifted by more than"),
    "begins late": (lambda root: rewrite(root / "b.hea", "b.dat 16x1", "b.dat 16x1+999999999"), "announces more samples than b.dat has"),
    "absolute": (lambda root: rewrite(root / "b.hea", "b.dat", "/etc/passwd"), "header is wrong"),
    "upwards": (lambda root: rewrite(root / "b.hea", "b.dat", "../secret.dat"), "header is wrong"),
    "address": (lambda root: rewrite(root / "b.hea", "b.dat", "https://example.org/b.dat"), "header is wrong"),
    "cloud": (lambda root: rewrite(root / "b.hea", "b.dat", "s3://bucket/b.dat"), "header is wrong"),
    "unknown": (lambda root: rewrite(root / "b.hea", "b.dat 16", "b.dat 17"), "format 17 is unknown"),
    "one line": (lambda root: (root / "b.hea").write_text("b 2 10 80\n"), "does not describe its channels"),
    "nothing": (lambda root: (root / "b.hea").write_text("b 0 10 0\n"), "announces no samples"),
    "no length": (lambda root: rewrite(root / "b.hea", " 80", ""), "announces no samples"),
    "empty": (lambda root: (root / "b.hea").write_text(""), "header is wrong"),
    "noise": (lambda root: (root / "b.hea").write_bytes(bytes(range(128, 256)) * 9), "header is wrong"),
    "huge": (lambda root: (root / "b.hea").write_text("#" * (MOST_TEXT + 1)), "a header has more than"),
    "no flac": (lambda root: rewrite(root / "b.hea", "16", "516"), "samples are damaged, or end early"),
    "infinite": (lambda root: rewrite(root / "b.hea", "100.0", "1e-307"), "a value is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_header_breaks_its_record_alone(hearts, kind):
    spoil, reason = HOSTILE[kind]
    spoil(hearts / "ill")

    with pytest.raises(
        DataFileError, match=rf"1 of 3 samples cannot be read, the first is ill/b\.hea: .*{reason}"
    ):
        inspected(hearts)
    assert ["ill/b.hea"] == list(inspected(hearts, on_broken="skip").broken)


@pytest.mark.parametrize("name", ["b.dat", "b.hea", "b.atr"])
def test_a_link_out_of_the_folder_is_not_followed(hearts, name):
    outside = hearts.parent / name
    (hearts / "ill" / name).rename(outside)
    (hearts / "ill" / name).symlink_to(outside)
    (hearts / "list.csv").write_text("file,label\nill/b.hea,x\n")

    with pytest.raises(DataFileError, match="is a link to outside the folder"):
        inspected(hearts)
    with pytest.raises(DataFileError, match="is outside"):
        inspected(hearts, table="list.csv")


def test_a_path_that_the_library_takes_for_an_address_is_refused(hearts):
    odd = hearts.rename(hearts.with_name("simplecache::https:"))

    with pytest.raises(DataFileError, match="its path has ::"):
        inspected(odd)


def test_comments_that_speak_of_a_person_are_refused_unless_allowed(hearts):
    write_record(
        hearts / "ill" / "b.hea", {"MLII": (10, STEPS)}, comments=["age: 61", "patient name: Jane Doe"]
    )

    with pytest.raises(IdentifiedPatientsError, match=r"what identifies a patient: comments$") as caught:
        inspected(hearts)

    assert "Doe" not in str(caught.value)
    assert 3 == inspected(hearts, identified="allow").samples


def test_without_wfdb_the_error_says_how_to_install_it(hearts, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wfdb", None)

    with pytest.raises(MissingExtraError) as caught:
        inspected(hearts)

    assert 'install it: pip install "warren-fl[wfdb]"' == caught.value.advice
