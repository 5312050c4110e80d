"""Know formats by the ends of their file names, and data sets by the names of their folders."""

from __future__ import annotations

from typing import Final

CSV: Final = frozenset({".csv", ".tsv", ".txt"})
PARQUET: Final = frozenset({".parquet", ".pq"})
EXCEL: Final = frozenset({".xlsx"})
IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
NIFTI: Final = (".nii", ".nii.gz")
DICOM: Final = (".dcm", ".ima", ".DCM", ".IMA")
EDF: Final = frozenset({".edf", ".bdf"})
VCF: Final = (".vcf", ".vcf.gz")
BED: Final = ".bed"
WFDB: Final = frozenset({".hea"})
"""Headers of records, which name all other files."""

MEDNIST: Final = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
"""The classes of MedNIST."""
MNIST_IMAGES: Final = "train-images-idx3-ubyte"
MNIST_LABELS: Final = "train-labels-idx1-ubyte"
