"""Images are read one by one, as pixels that can be trusted, and a broken one ends nothing."""

import gzip
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import DataManager
from common.datasets import ImageFolderDataset, MedNistDataset, MnistDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.datasets.formats import MEDNIST
from common.errors import (
    DataFileError,
    MissingExtraError,
    UnknownCategoryError,
    UnknownColumnError,
    WrongDataTypeError,
)
from node.fingerprint import fingerprint


def inspected(path, data_type="images", **options):
    kind = family(data_type)
    return kind.inspect(path, parsed(kind.options, options))


def bound(dataset, path, **parameters):
    dataset.bind(path, parameters)
    return dataset


def draw(path, value, *, size=(6, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def scans(tmp_path):
    """Two classes, three formats: the value of each pixel says which image it is."""
    root = tmp_path / "scans"
    for number, name in enumerate(["ill/a.png", "ill/b.tiff", "well/c.png", "well/deep/d.tif"]):
        draw(root / name, 50 * number)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"")
    return root


def test_a_folder_is_described_by_its_classes_and_the_form_of_its_images(scans):
    found = inspected(scans)

    assert (4, (4, 4, 6, 1), ("ill", "well")) == (found.samples, found.shape, found.classes)
    assert [("image", "image L 4x6"), ("class", "Category")] == [
        (column.name, column.dtype) for column in found.columns
    ]


def test_an_image_becomes_numbers_from_0_to_1_and_the_number_of_its_class(scans):
    dataset = bound(ImageFolderDataset(), scans)

    data, target = dataset[3]

    assert (4, (1, 4, 6), np.float32) == (len(dataset), data.shape, data.dtype)
    np.testing.assert_allclose(data, 150 / 255)
    assert [0, 0, 1, 1] == [int(dataset[index][1]) for index in range(4)]
    assert 1 == target


@pytest.mark.parametrize(
    ("mode", "value", "shape", "expected"),
    [
        ("RGB", (255, 0, 51), (3, 4, 6), [1.0, 0.0, 0.2]),
        ("RGBA", (255, 0, 51, 9), (3, 4, 6), [1.0, 0.0, 0.2]),
        ("I;16", 13107, (1, 4, 6), [0.2]),
        ("1", 1, (1, 4, 6), [1.0]),
        ("F", 2.5, (1, 4, 6), [2.5]),
    ],
)
def test_each_mode_has_its_scale(tmp_path, mode, value, shape, expected):
    draw(tmp_path / "x" / "a.tif", value, mode=mode)

    data, _ = bound(ImageFolderDataset(), tmp_path)[0]

    assert shape == data.shape
    np.testing.assert_allclose(expected, data[:, 0, 0], rtol=1e-6)


def test_mode_size_and_transforms_are_applied_in_that_order(scans):
    seen = []

    def transform(image):
        seen.append((image.mode, image.size))
        return image.transpose(Image.Transpose.TRANSPOSE)

    dataset = bound(ImageFolderDataset(transform, lambda target: -target, mode="RGB", size=(2, 8)), scans)

    data, target = dataset[2]
    assert (("RGB", (8, 2)), (3, 8, 2), -1) == (seen[0], data.shape, target)
    assert [] == bound(ImageFolderDataset(lambda image: []), scans)[0][0]


def test_images_come_in_batches_and_are_split_by_their_names(scans):
    manager = DataManager(ImageFolderDataset(size=(2, 2)), batch_size=3)
    manager.bind(scans, {}, data_type="images")

    parts = manager.split(test_ratio=0.25, seed=1)

    ((data, target),) = list(parts.train)
    assert ((3, 1, 2, 2), torch.int64, 1) == (tuple(data.shape), target.dtype, parts.test.samples)
    ids = bound(ImageFolderDataset(), scans).sample_ids().tolist()
    draw(scans / "ill" / "aa.png", 0)
    assert set(ids) < set(bound(ImageFolderDataset(), scans).sample_ids().tolist())


def test_classes_that_the_plan_names_have_the_same_number_at_every_node(scans):
    dataset = bound(ImageFolderDataset(classes=["dead", "ill", "well"]), scans)

    assert [1, 1, 2, 2] == [int(dataset[index][1]) for index in range(4)]
    with pytest.raises(UnknownCategoryError, match=r"2 samples of 'class' are none .* ill"):
        bound(ImageFolderDataset(classes=["ill"]), scans)


def test_a_table_can_list_images_with_classes_or_values(scans):
    (scans / "labels.csv").write_text("scan;grade;size\nwell/c.png;G2;1.5\nill/a.png;G1;2\n")
    options = {"table": "labels.csv", "file_column": "scan", "label_column": "grade"}

    found = inspected(scans, **options)
    dataset = bound(ImageFolderDataset(), scans, **options)

    assert (2, ("G1", "G2")) == (found.samples, found.classes)
    assert [1, 0] == [int(dataset[index][1]) for index in range(2)]
    values = bound(ImageFolderDataset(), scans, **options | {"label_column": "size"})
    assert [1.5, 2.0] == [float(values[index][1]) for index in range(2)]
    with pytest.raises(UnknownColumnError):
        inspected(scans, **options | {"label_column": "none"})


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "ill/../../secret.png"])
def test_a_table_does_not_lead_out_of_the_folder(scans, name):
    draw(scans.parent / "secret.png", 1)
    (scans / "labels.csv").write_text(f"file,label\n{name},1\nill/a.png,0\n")

    for table in ("labels.csv", "../labels.csv"):
        with pytest.raises(DataFileError, match="is outside"):
            inspected(scans, table=table)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_a_file(scans):
    (scans / "well" / "again.png").symlink_to(scans / "ill" / "a.png")
    assert 5 == inspected(scans).samples
    draw(scans.parent / "secret.png", 1)
    (scans / "well" / "x.png").symlink_to(scans.parent / "secret.png")

    for look in (inspected, fingerprint):
        with pytest.raises(DataFileError, match=r"well/x\.png .* it is a link to outside the folder"):
            look(scans)


def damage(path, kind):
    content = path.read_bytes()
    if kind == "short":
        path.write_bytes(content[:-20])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "gif":
        Image.new("L", (2, 2)).save(path, "GIF")
    elif kind == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:8] + bytes(reversed(content[8:])))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", ["short", "empty", "gif", "noise"])
@pytest.mark.parametrize("name", ["ill/a.png", "ill/b.tiff"])
def test_a_damaged_image_is_refused_by_name_or_left_out_and_counted(scans, name, kind):
    damage(scans / name, kind)

    with pytest.raises(DataFileError, match=f"1 of 4 samples cannot be read, the first is {name}"):
        inspected(scans)
    found = inspected(scans, on_broken="skip")

    assert (3, [name], 0) == (found.samples, list(found.broken), found.left_out)
    rest = bound(ImageFolderDataset(), scans, on_broken="skip", broken=list(found.broken))
    assert 3 == len([rest[index] for index in range(len(rest))])


def test_images_that_must_not_be_used_are_counted_apart(scans):
    found = inspected(scans, leave_out=["ill/a.png", "gone.png"])

    assert (3, 1, {}) == (found.samples, found.left_out, found.broken)


def png(width, height):
    """A PNG of any size in few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def tiff(width, height):
    """A TIFF of any size in few bytes: one packed strip of zeros."""
    strip = zlib.compress(b"")
    entries = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 8),
        (262, 1),
        (273, 110),
        (277, 1),
        (278, height),
        (279, len(strip)),
    ]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    folder = struct.pack("<H", len(entries)) + fields + bytes(4)
    return (struct.pack("<2sHI", b"II", 42, 8) + folder).ljust(110, b"\0") + strip


def test_the_tiff_of_the_next_test_is_one(tmp_path):
    (tmp_path / "a.tiff").write_bytes(tiff(8, 4))

    with Image.open(tmp_path / "a.tiff") as image:
        assert (8, 4) == image.size


@pytest.mark.parametrize("make", [png, tiff])
@pytest.mark.parametrize("side", [8200, 10_000, 100_000])
def test_a_small_file_that_unpacks_to_a_huge_image_is_refused_before_it_does(scans, make, side):
    name = {png: "a.png", tiff: "b.tiff"}[make]
    (scans / "ill" / name).write_bytes(make(side, side))

    with pytest.raises(DataFileError, match=rf"ill/{name}: it has .* pixels"):
        inspected(scans)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: None, "it is no folder"),
        (lambda root: root.mkdir(), "it has 0 classes"),
        (lambda root: root.write_text("x"), "it is no folder"),
        (lambda root: draw(root / "a.png", 1), "it is in no folder of a class"),
    ],
    ids=["gone", "empty", "file", "no class"],
)
def test_what_is_no_folder_of_images_is_refused(tmp_path, make, reason):
    make(tmp_path / "root")

    with pytest.raises(DataFileError, match=reason):
        inspected(tmp_path / "root")


def test_a_pipe_in_the_folder_is_refused(scans):
    os.mkfifo(scans / "ill" / "pipe.png")

    with pytest.raises(DataFileError, match="it is no regular file"):
        inspected(scans)


def test_without_pillow_the_error_says_how_to_install_it(scans, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)

    with pytest.raises(MissingExtraError, match="images needs the package pillow") as caught:
        inspected(scans)

    assert 'install it: pip install "warren-fl[images]"' == caught.value.advice


def test_a_plan_for_images_refuses_a_table():
    with pytest.raises(
        WrongDataTypeError, match=r"reads images or mednist data sets, and this one .* tabular"
    ):
        DataManager(ImageFolderDataset()).bind(None, {}, data_type="tabular")


def test_the_first_images_can_be_looked_at(scans):
    kind = family("images")

    assert [{"file": "ill/a.png", "label": "ill", "mode": "L", "size": "4 x 6"}] == kind.preview(
        scans, parsed(kind.options, {}), 1
    )


# MedNIST and MNIST


def test_mednist_has_its_six_classes_in_their_order(tmp_path):
    draw(tmp_path / "Hand" / "1.jpeg", 255, size=(64, 64))
    draw(tmp_path / "CXR" / "1.jpeg", 0, size=(64, 64))

    found = inspected(tmp_path, "mednist")
    data, target = bound(MedNistDataset(), tmp_path)[1]

    assert ((2, 64, 64, 1), ("CXR", "Hand")) == (found.shape, found.classes)
    assert ((1, 64, 64), MEDNIST.index("Hand")) == (data.shape, target)
    draw(tmp_path / "Foot" / "1.jpeg", 0)
    with pytest.raises(DataFileError, match="its classes are CXR, Foot, Hand"):
        inspected(tmp_path, "mednist")


def write_mnist(folder, count=10, *, packed=True, **changed):
    folder.mkdir(exist_ok=True)
    images = np.arange(count, dtype=np.uint8).repeat(28 * 28).tobytes()
    labels = (np.arange(count, dtype=np.uint8) % 10).tobytes()
    files = {
        "train-images-idx3-ubyte": struct.pack(">IIII", 0x803, count, 28, 28) + images,
        "train-labels-idx1-ubyte": struct.pack(">II", 0x801, count) + labels,
    }
    for name, content in (files | changed).items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_its_own_files(tmp_path, packed):
    write_mnist(tmp_path, packed=packed)

    found = inspected(tmp_path, "mnist", leave_out=["3"])
    data, digits = bound(MnistDataset(), tmp_path, leave_out=["3"]).arrays()

    assert (9, (9, 28, 28, 1), 1) == (found.samples, found.shape, found.left_out)
    assert ((9, 1, 28, 28), [0, 1, 2, 4, 5, 6, 7, 8, 9]) == (data.shape, digits.tolist())
    np.testing.assert_allclose(data[3], 4 / 255)
    assert (-4, 28) == (bound(MnistDataset(lambda x: x, lambda y: -y), tmp_path)[4][1], data[3].shape[-1])
    kind = family("mnist")
    assert {"position": 1, "digit": 1} == kind.preview(tmp_path, parsed(kind.options, {}), 2)[1]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("train-images-idx3-ubyte", b"", "its header does not fit"),
        (
            "train-images-idx3-ubyte",
            struct.pack(">IIII", 0x803, 2**31, 2**31, 2**31),
            "its header does not fit",
        ),
        ("train-labels-idx1-ubyte", struct.pack(">II", 0x801, 1) + b"\1", "do not fit each other"),
        (
            "train-labels-idx1-ubyte",
            struct.pack(">II", 0x801, 10) + bytes(9) + b"\x0b",
            "do not fit each other",
        ),
    ],
)
def test_damaged_files_of_mnist_are_refused(tmp_path, name, content, reason):
    write_mnist(tmp_path, **{name: content})

    with pytest.raises(DataFileError, match=reason):
        inspected(tmp_path, "mnist")


def test_missing_and_unpackable_files_of_mnist_are_refused(tmp_path):
    with pytest.raises(DataFileError, match="there is no such file"):
        inspected(tmp_path, "mnist")
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(DataFileError, match="it is damaged"):
        inspected(tmp_path, "mnist")
