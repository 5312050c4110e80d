"""A DICOM series is a volume, and what names its patient does not get in unnoticed."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from common.datasets import MedicalFolderDataset
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.errors import DataFileError, IdentifiedPatientsError, MissingExtraError

SERIES = generate_uid(entropy_srcs=["series"])


def write_slice(path, pixels, *, place, **elements):
    """Write one slice at a height, of which x leads to the left and y to the back, as in DICOM."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    values = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": SERIES,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, place],
        "PixelSpacing": [2, 1],
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": 2,
        "RescaleIntercept": -10,
        "PixelData": pixels.astype("<i2").tobytes(),
    }
    for keyword, value in (values | elements).items():
        if value is not None:
            setattr(found, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)


def write_series(folder, **elements):
    """Write three slices of 2 rows and 4 columns, in an order that their names do not tell."""
    for name, height in [("a", 6), ("b", 0), ("c", 3)]:
        write_slice(folder / f"{name}.dcm", height + np.arange(8).reshape(2, 4), place=height, **elements)


@pytest.fixture
def study(tmp_path):
    for subject in ("sub-1", "sub-2", "sub-3"):
        write_series(tmp_path / "study" / subject / "CT")
    return tmp_path / "study"


def inspected(path, **options):
    kind = family("medical-folder")
    return kind.inspect(path, parsed(kind.options, options))


def bound(path, parameters=None, **options):
    dataset = MedicalFolderDataset("CT", "CT", **options)
    dataset.bind(path, parameters or {})
    return dataset


def test_a_series_is_described_as_one_volume(study):
    (column,) = inspected(study).columns

    assert ("CT", "float32 4x2x3 LPS 1x2x3 mm") == (column.name, column.dtype)


def test_slices_are_put_in_order_and_values_mean_what_the_file_says(study):
    data, _ = bound(study)[0]

    assert (1, 4, 2, 3) == data.shape
    assert [-10, -4, 2] == data[0, 0, 0].tolist()
    assert [-10, -8, -6, -4] == data[0, :, 0, 0].tolist()
    np.testing.assert_array_equal(data[0, ::-1, ::-1], bound(study, orientation="RAS")[0][0][0])


def test_unscaled_targets_of_whole_numbers_stay_labels(tmp_path):
    write_series(tmp_path / "sub-1" / "CT", RescaleSlope=None, RescaleIntercept=None)

    data, target = bound(tmp_path)[0]

    assert (np.float32, np.int64) == (data.dtype, target.dtype)


# Patients


def test_what_names_a_patient_is_listed_and_refused_unless_allowed(study):
    write_series(study / "sub-2" / "CT", PatientName="Doe^Jane", PatientID="4711", InstitutionName="Mercy")

    with pytest.raises(IdentifiedPatientsError) as caught:
        inspected(study)

    text = str(caught.value)
    assert "3 or more files" in text
    assert "InstitutionName, PatientID, PatientName" in text
    assert not [secret for secret in ("Doe", "4711", "Mercy") if secret in text]
    assert 3 == inspected(study, identified="allow").samples


def test_a_pseudonym_passes_where_the_file_says_that_the_identity_was_removed(study):
    write_series(study / "sub-1" / "CT", PatientName="S1", PatientID="S1", PatientIdentityRemoved="YES")
    assert 3 == inspected(study).samples

    write_series(study / "sub-1" / "CT", PatientBirthDate="19700101", PatientIdentityRemoved="YES")
    with pytest.raises(IdentifiedPatientsError, match="patient: PatientBirthDate"):
        inspected(study)


def test_writing_in_the_pixels_counts_as_identifying(study):
    write_series(study / "sub-1" / "CT", BurnedInAnnotation="YES")

    with pytest.raises(IdentifiedPatientsError, match="BurnedInAnnotation"):
        inspected(study)


# Broken series


def cut(folder):
    path = folder / "a.dcm"
    path.write_bytes(path.read_bytes()[:200])


BREAK = {
    "no pixels": lambda folder: write_slice(folder / "a.dcm", np.zeros((2, 4)), place=6, PixelData=None),
    "short pixels": lambda folder: write_slice(
        folder / "a.dcm", np.zeros((2, 4)), place=6, PixelData=bytes(8)
    ),
    "no place": lambda folder: write_slice(
        folder / "a.dcm", np.zeros((2, 4)), place=6, ImagePositionPatient=None
    ),
    "no DICOM": lambda folder: (folder / "a.dcm").write_bytes(b"no DICOM file" * 40),
    "empty": lambda folder: (folder / "a.dcm").write_bytes(b""),
    "cut": cut,
    "a slice twice": lambda folder: write_slice(folder / "a.dcm", np.zeros((2, 4)), place=3),
    "a slice missing": lambda folder: write_slice(folder / "a.dcm", np.zeros((2, 4)), place=9),
    "another size": lambda folder: write_slice(folder / "a.dcm", np.zeros((4, 4)), place=6),
    "another series": lambda folder: write_slice(
        folder / "a.dcm", np.zeros((2, 4)), place=6, SeriesInstanceUID=generate_uid()
    ),
    "several frames": lambda folder: write_slice(
        folder / "a.dcm", np.zeros((2, 4)), place=6, NumberOfFrames=2
    ),
    "huge": lambda folder: [
        write_slice(folder / f"{name}.dcm", np.zeros((2, 4)), place=1, Rows=65535, Columns=65535)
        for name in "abc"
    ],
}


@pytest.mark.parametrize("kind", BREAK)
def test_a_broken_series_is_refused_by_name_or_left_out_and_counted(study, kind):
    BREAK[kind](study / "sub-2" / "CT")

    with pytest.raises(DataFileError, match="1 of 3 samples cannot be read, the first is sub-2: "):
        inspected(study)
    found = inspected(study, on_broken="skip")

    assert (2, ["sub-2"]) == (found.samples, list(found.broken))
    assert 2 == len(bound(study, {"broken": list(found.broken)}))


def test_without_pydicom_the_error_says_how_to_install_it(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)

    with pytest.raises(MissingExtraError) as caught:
        inspected(study)

    assert 'install it: pip install "warren-fl[dicom]"' == caught.value.advice


def test_what_is_written_here_is_what_the_library_reads(study):
    assert "CT Image Storage" == pydicom.dcmread(study / "sub-1" / "CT" / "a.dcm").SOPClassUID.name
