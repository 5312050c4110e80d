"""Volumes of subjects are read one by one, on the grid that is asked for, and an unreadable study ends nothing."""

import gzip
import tracemalloc

import numpy as np
import pytest
import torch

from common.data import DataManager
from common.datasets import MedicalFolderDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.errors import (
    DataFileError,
    InvalidArgumentsError,
    InvalidDatasetError,
    MissingExtraError,
    UnknownColumnError,
)
from tests.support.volumes import write_folder, write_volume

TABLE = {"demographics": "participants.tsv"}


def inspected(path, **options):
    kind = family("medical-folder")
    return kind.inspect(path, parsed(kind.options, options))


def bound(path, *args, parameters=None, **options):
    dataset = MedicalFolderDataset(*args, **options)
    dataset.bind(path, parameters or {})
    return dataset


@pytest.fixture
def study(tmp_path):
    return write_folder(tmp_path / "study")


def test_a_folder_is_described_by_its_modalities_and_demographics(study):
    found = inspected(study, **TABLE, units={"age": "years"})

    assert (4, (4,), 0) == (found.samples, found.shape, found.left_out)
    assert [
        ("T1", "float32 4x4x4 RAS 1x1x1 mm", 0, ""),
        ("label", "uint8 4x4x4 RAS 1x1x1 mm", 0, ""),
        ("demographics.age", "Int64", 0, "years"),
        ("demographics.sex", "String", 0, ""),
    ] == [(column.name, column.dtype, column.missing, column.unit) for column in found.columns]


def test_one_modality_gives_an_array_and_several_a_dictionary(study):
    data, target = bound(study, "T1", "label")[1]
    both, _ = bound(study, ["T1", "label"], "label")[1]

    assert ((1, 4, 4, 4), np.float32, 2.0) == (data.shape, data.dtype, data.mean())
    assert ((1, 4, 4, 4), np.int64, 0.5) == (target.shape, target.dtype, target.mean())
    assert {"T1": np.float32, "label": np.float32} == {name: found.dtype for name, found in both.items()}


def test_demographics_are_a_row_for_a_transform_or_a_vector_of_columns(study):
    row, _ = bound(study, "demographics", "label", lambda row: [row["age"], row["sex"]], parameters=TABLE)[0]
    mixed, age = bound(
        study, ["T1", "demographics"], "demographics", demographics_columns=["age"], parameters=TABLE
    )[2]

    assert [41, "M"] == row
    assert ([43.0], [43.0]) == (mixed["demographics"].tolist(), age.tolist())


def test_transforms_go_by_modality(study):
    dataset = bound(
        study, ["T1", "label"], "label", {"T1": lambda volume: volume * 10}, lambda mask: mask[:, :1]
    )

    data, target = dataset[0]

    assert (10.0, 0.5, (1, 1, 4, 4)) == (data["T1"].mean(), data["label"].mean(), target.shape)


def test_subjects_come_in_batches_and_keep_their_ids(study):
    manager = DataManager(MedicalFolderDataset(["T1"], "label"), batch_size=2)
    manager.bind(study, {}, data_type="medical-folder")

    batches = list(manager.split(test_ratio=0.25, seed=1).train)

    assert [(2, 1, 4, 4, 4), (1, 1, 4, 4, 4)] == [tuple(data["T1"].shape) for data, _ in batches]
    assert torch.int64 == batches[0][1].dtype
    ids = bound(study, "T1", "label").sample_ids().tolist()
    assert ids[1:] == bound(study, "T1", "label", parameters={"leave_out": ["sub-1"]}).sample_ids().tolist()


# What a hospital calls its modalities


def test_names_of_a_hospital_are_mapped_to_those_of_the_plan(tmp_path):
    cube = np.ones((2, 2, 2), np.float32)
    write_volume(tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii", cube)
    write_volume(tmp_path / "sub-1" / "anat" / "sub-1_T2w.nii", 2 * cube)
    write_volume(tmp_path / "sub-2" / "T1-weighted" / "x.nii", 3 * cube)
    modalities = {"T1": ["anat/*_T1w.nii*", "T1-weighted"], "T2": ["anat/*_T2w.nii*"]}

    found = inspected(tmp_path, modalities=modalities)
    dataset = bound(tmp_path, "T1", "T1", parameters={"modalities": modalities})

    assert [("T1", 0), ("T2", 1)] == [(column.name, column.missing) for column in found.columns]
    assert [1.0, 3.0] == [dataset[index][0].mean() for index in range(2)]
    with pytest.raises(DataFileError, match="it has 2 files, and one was expected"):
        inspected(tmp_path)


# Incomplete and broken subjects


def test_a_plan_gets_the_subjects_that_have_what_it_asks_for(study):
    (study / "sub-2" / "label" / "mask.nii.gz").unlink()
    (study / "participants.tsv").write_text("subject\tage\nsub-1\t40\nsub-2\t41\nsub-3\tNA\n")

    found = inspected(study, **TABLE)

    assert (4, [("T1", 0), ("label", 1), ("demographics.age", 2)]) == (
        found.samples,
        [(column.name, column.missing) for column in found.columns],
    )
    assert (4, 3, 2) == (
        len(bound(study, "T1", "T1", parameters=TABLE)),
        len(bound(study, "T1", "label", parameters=TABLE)),
        len(bound(study, "T1", "demographics", demographics_columns=["age"], parameters=TABLE)),
    )
    with pytest.raises(DataFileError, match="2 subjects are incomplete: sub-2 lacks label"):
        inspected(study, **TABLE, incomplete="refuse")
    complete = TABLE | {"incomplete": "leave_out"}
    assert (2, 2) == ((rest := inspected(study, **complete)).samples, rest.left_out)
    assert 2 == len(bound(study, "T1", "T1", parameters=complete))


def damage(path, kind):
    content = gzip.decompress(path.read_bytes())
    if kind == "short":
        path.write_bytes(gzip.compress(content[:-40]))
    elif kind == "short gzip":
        path.write_bytes(path.read_bytes()[:-15])
    elif kind == "no gzip":
        path.write_bytes(content)
    elif kind == "no header":
        path.write_bytes(gzip.compress(content[:100]))
    elif kind == "bad header":
        path.write_bytes(gzip.compress(bytes(range(256)) * 2))
    elif kind == "empty":
        path.write_bytes(b"")
    else:  # 30000 voxels along each axis
        sizes = np.array([3, 30_000, 30_000, 30_000], "<i2").tobytes()
        path.write_bytes(gzip.compress(content[:40] + sizes + content[48:]))


@pytest.mark.parametrize(
    "kind", ["short", "short gzip", "no gzip", "no header", "bad header", "empty", "huge"]
)
def test_an_unreadable_study_is_refused_by_name_or_left_out_and_counted(study, kind):
    damage(study / "sub-3" / "T1" / "t1.nii.gz", kind)

    with pytest.raises(DataFileError, match="1 of 4 samples cannot be read, the first is sub-3: it"):
        inspected(study)
    found = inspected(study, on_broken="skip")

    assert (3, ["sub-3"]) == (found.samples, list(found.broken))
    rest = bound(study, "T1", "label", parameters={"broken": list(found.broken)})
    assert [1.0, 2.0, 4.0] == [rest[index][0].mean() for index in range(len(rest))]


def test_what_the_plan_asks_for_and_nobody_has_is_named(study):
    with pytest.raises(UnknownColumnError, match="no column 'PET'; there are T1, label, demographics"):
        bound(study, "PET", "label", parameters=TABLE)
    with pytest.raises(UnknownColumnError, match="no column 'weight'"):
        bound(study, "demographics", "label", demographics_columns=["weight"], parameters=TABLE)
    with pytest.raises(DataFileError, match="no subject has all of T1"):
        bound(study, "T1", "label", parameters={"leave_out": [f"sub-{n}" for n in range(5)]})
    with pytest.raises(InvalidArgumentsError, match="name at least one"):
        MedicalFolderDataset([], "label")


def test_wrong_options_and_folders_are_refused(study, tmp_path):
    with pytest.raises(InvalidDatasetError, match="modalities"):
        inspected(study, modalities=["T1"])
    with pytest.raises(UnknownColumnError, match="no column 'id'"):
        inspected(study, **TABLE, index_column="id")
    with pytest.raises(DataFileError, match="is outside"):
        inspected(study, demographics="../participants.tsv")
    (study / "participants.tsv").write_text("subject\nsub-1\nsub-1\n")
    with pytest.raises(DataFileError, match="has gaps, or a subject twice"):
        inspected(study, **TABLE)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(DataFileError):
            inspected(path)


def test_without_nibabel_the_error_says_how_to_install_it(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)

    with pytest.raises(MissingExtraError) as caught:
        inspected(study)

    assert 'install it: pip install "warren-fl[medical]"' == caught.value.advice


# Axes and values


def test_a_fourth_axis_becomes_channels(tmp_path):
    still, moving = (
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2),
    )
    write_volume(tmp_path / "a" / "t1" / "x.nii.gz", still[..., None])
    write_volume(tmp_path / "a" / "bold" / "x.nii.gz", moving)
    write_volume(tmp_path / "a" / "flow" / "x.nii.gz", moving[:, :, :, None, :])

    data, target = bound(tmp_path, ["t1", "bold", "flow"], "bold")[0]

    np.testing.assert_array_equal(still[None], data["t1"])
    np.testing.assert_array_equal(np.moveaxis(moving, -1, 0), data["bold"])
    np.testing.assert_array_equal(data["bold"], data["flow"])
    assert (np.float32, np.int64) == (data["bold"].dtype, target.dtype)
    assert "int16 2x3x4x2 RAS 1x1x1 mm" == inspected(tmp_path).columns[0].dtype


def test_channels_are_turned_resampled_and_cut_alike(tmp_path):
    ramp = np.stack([np.arange(8).reshape(2, 2, 2), 10 * np.arange(8).reshape(2, 2, 2)], -1).astype(
        np.float32
    )
    write_volume(tmp_path / "a" / "bold" / "x.nii", ramp, flip=True)

    turned, _ = bound(tmp_path, "bold", "bold", orientation="RAS")[0]
    finer, _ = bound(tmp_path, "bold", "bold", spacing=(0.5, 1, 1))[0]
    patches, _ = bound(tmp_path, "bold", "bold", patch=(2, 1, 3), patches=4)[0]

    np.testing.assert_array_equal(np.moveaxis(ramp[::-1], -1, 0), turned)
    assert (2, 3, 2, 2) == finer.shape
    np.testing.assert_allclose(10 * finer[0], finer[1])
    np.testing.assert_allclose([4, 2, 0], finer[0, :, 0, 0])
    assert (4, 2, 2, 1, 3) == patches.shape
    np.testing.assert_array_equal(10 * patches[:, 0], patches[:, 1])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((2, 2, 2, 3, 3), np.float32), "it has the axes 2x2x2x3x3, and three of space"),
        (np.zeros((2, 2), np.float32), "it has the axes 2x2, and three of space"),
        (np.zeros((2, 2, 2), np.complex64), "its values are complex64, which are no real numbers"),
        (np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "which are no real numbers"),
    ],
    ids=["5D", "2D", "complex", "colours"],
)
def test_other_axes_and_values_are_refused(tmp_path, values, reason):
    write_volume(tmp_path / "a" / "ct" / "x.nii.gz", values)

    with pytest.raises(DataFileError, match=reason):
        inspected(tmp_path)


def test_room_is_made_for_no_more_than_a_packed_file_can_hold(tmp_path):
    path = write_volume(tmp_path / "a" / "ct" / "x.nii.gz", np.zeros((2, 2, 2), np.float64))
    content = gzip.decompress(path.read_bytes())
    sizes = np.array([3, 512, 512, 512], "<i2").tobytes()  # 1 GB, and few enough voxels
    path.write_bytes(gzip.compress(content[:40] + sizes + content[48:]))

    tracemalloc.start()
    with pytest.raises(DataFileError, match="it is too short for its voxels"):
        inspected(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 10 * 1024**2


@pytest.mark.parametrize("name", ["t1.nii.gz", "0001.dcm"])
def test_a_link_out_of_the_folder_is_refused(study, tmp_path, name):
    (tmp_path / "elsewhere").write_bytes(b"secret")
    (study / "sub-1" / "CT").mkdir()
    (study / "sub-1" / "CT" / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataFileError, match="is a link to outside the folder"):
        inspected(study)
    with pytest.raises(DataFileError, match="is a link to outside the folder"):
        bound(study, "T1", "label")


# Transforms


class Turn:
    """What MONAI's and TorchIO's transforms are to us: a callable, of a dictionary or of an array with channels first."""

    def __init__(self, keys=None):
        self.keys = keys

    def __call__(self, data):
        if self.keys is None:
            assert 4 == data.ndim
            return torch.as_tensor(data[:, ::-1].copy())
        return dict(data) | {key: torch.as_tensor(data[key][:, ::-1].copy()) for key in self.keys}


def test_a_transform_of_one_array_may_give_a_tensor(study):
    manager = DataManager(MedicalFolderDataset("T1", "label", Turn(), Turn()), batch_size=4)
    manager.bind(study, {}, data_type="medical-folder")

    ((data, target),) = list(manager.split(test_ratio=0, seed=1).train)

    assert ((4, 1, 4, 4, 4), torch.float32, torch.int64) == (tuple(data.shape), data.dtype, target.dtype)


def test_a_joint_transform_changes_inputs_and_targets_alike(study):
    plain = bound(study, ["T1"], "label")[1]
    data, target = bound(study, ["T1"], "label", joint_transform=Turn(["T1", "label"]))[1]

    np.testing.assert_array_equal(plain[0]["T1"][:, ::-1], data["T1"])
    np.testing.assert_array_equal(plain[1][:, ::-1], target)
    assert torch.int64 == target.dtype


def test_a_joint_transform_comes_before_the_others(study):
    data, target = bound(
        study,
        "T1",
        "label",
        lambda volume: volume + 1,
        joint_transform=lambda both: {**both, "T1": both["label"] * 3.0},
    )[1]

    np.testing.assert_array_equal(target * 3.0 + 1, data)


# Grids


def test_axes_are_turned_by_flipping(tmp_path):
    ramp = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    write_volume(tmp_path / "a" / "T1" / "x.nii", ramp, flip=True)

    assert "LAS" in inspected(tmp_path).columns[0].dtype
    np.testing.assert_array_equal(ramp, bound(tmp_path, "T1", "T1")[0][0][0])
    np.testing.assert_array_equal(ramp[::-1], bound(tmp_path, "T1", "T1", orientation="RAS")[0][0][0])


def test_volumes_are_resampled_linearly_and_labels_stay_labels(tmp_path):
    ramp = np.repeat(np.array([0, 2, 4], np.int16), 4).reshape(3, 2, 2)
    write_volume(tmp_path / "a" / "ct" / "x.nii", ramp, spacing=(2, 1, 1))
    write_volume(tmp_path / "a" / "mask" / "x.nii", ramp, spacing=(2, 1, 1))

    data, target = bound(tmp_path, "ct", "mask", spacing=(1.0, 1.0, 1.0))[0]

    assert ([0, 1, 2, 3, 4], np.float32) == (data[0, :, 0, 0].tolist(), data.dtype)
    assert ({0, 2, 4}, np.int64) == (set(np.unique(target).tolist()), target.dtype)


def test_scaled_values_are_what_they_mean(tmp_path):
    write_volume(tmp_path / "a" / "ct" / "x.nii", np.array([[[0.5, 1.5]]], np.float32))
    path = tmp_path / "a" / "scaled" / "x.nii"
    write_volume(path, np.array([[[10, 30]]], np.int16))
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(0.5).tobytes()
    path.write_bytes(content)

    assert [5.0, 15.0] == bound(tmp_path, "ct", "scaled")[0][1].flatten().tolist()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_patches_are_the_same_part_of_each_modality_in_every_round(tmp_path, suffix):
    rng = np.random.default_rng(1)
    for subject in ("a", "b"):
        values = rng.integers(0, 99, (9, 9, 9)).astype(np.int16)
        write_volume(tmp_path / subject / "ct" / f"x{suffix}", values)
        write_volume(tmp_path / subject / "mask" / f"x{suffix}", values)
    options = {"patch": (4, 3, 2), "patches": 3}

    first, again = (bound(tmp_path, "ct", "mask", **options) for _ in range(2))
    data, target = first[0]

    assert (3, 1, 4, 3, 2) == data.shape
    np.testing.assert_array_equal(data, target)
    np.testing.assert_array_equal(data, again[0][0])
    assert not np.array_equal(data[0], data[1])
    assert not np.array_equal(data, first[1][0])


def test_a_volume_smaller_than_a_patch_is_filled_with_zeros(study):
    data, _ = bound(study, "T1", "label", patch=(6, 4, 2))[3]

    assert ((1, 1, 6, 4, 2), 4.0, 0.0) == (data.shape, data[0, 0, :4].mean(), data[0, 0, 4:].max())


def test_the_first_subjects_can_be_looked_at(study):
    kind = family("medical-folder")

    assert [
        {"subject": "sub-1", "T1": "float32 4x4x4 RAS 1x1x1 mm", "label": "uint8 4x4x4 RAS 1x1x1 mm"}
    ] == kind.preview(study, parsed(kind.options, {}), 1)
