"""The demo's data is the study's, prepared as FLamby does."""

from __future__ import annotations

import csv
import hashlib

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from deploy.demo.hospitals import DATA, FEATURES, NAMES, SPLIT, TARGET, hospitals, write_csv

RAW = {
    "processed.cleveland.data": "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "processed.hungarian.data": "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "processed.switzerland.data": "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "processed.va.data": "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
    "heart-disease.names": "ec7ed5aa4ed8321097808f47b836301c2a0c36f3bb09c40b8b43b622363e6b61",
}
SIZES = {"cleveland": (199, 104), "hungary": (172, 89), "switzerland": (30, 16), "va": (85, 45)}


@pytest.mark.parametrize("name", RAW)
def test_raw_files_are_byte_identical_to_the_originals(name):
    assert RAW[name] == hashlib.sha256((DATA / name).read_bytes()).hexdigest()


def test_the_attribution_that_the_licence_asks_for_is_there():
    text = (DATA / "README.md").read_text()
    for words in ("CC BY 4.0", "Janosi", "Steinbrunn", "Pfisterer", "Detrano"):
        assert words in text


def test_preparation_gives_the_known_numbers_of_patients():
    sizes = {name: (int((~one.test).sum()), int(one.test.sum())) for name, one in hospitals().items()}
    assert sizes == SIZES
    assert sum(map(sum, sizes.values())) == 740


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_split_is_the_one_of_flamby(name):
    labels = hospitals()[name].labels
    _, test = train_test_split(
        np.arange(len(labels)),
        test_size=1 - 0.66,
        train_size=0.66,
        random_state=43,
        shuffle=True,
        stratify=None if name == "switzerland" else labels,
    )
    assert sorted(test.tolist()) == np.flatnonzero(hospitals()[name].test).tolist()


def test_there_are_13_features_without_a_missing_value():
    assert len(FEATURES) == 13
    for hospital in hospitals().values():
        assert hospital.features.shape == (len(hospital.labels), 13)
        assert np.isfinite(hospital.features).all()
        assert set(hospital.labels.tolist()) <= {0, 1}


def test_the_indicators_of_a_code_exclude_each_other():
    for hospital in hospitals().values():
        columns = dict(zip(FEATURES, hospital.features.T, strict=True))
        pain = columns["pain_atypical"] + columns["pain_not_anginal"] + columns["pain_absent"]
        ecg = columns["ecg_st_t"] + columns["ecg_hypertrophy"]
        assert set(pain.tolist()) | set(ecg.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_a_written_csv_holds_exactly_the_prepared_values(name, tmp_path):
    hospital = hospitals()[name]
    write_csv(hospital, tmp_path / "heart.csv")
    with (tmp_path / "heart.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*FEATURES, TARGET, SPLIT]
    values = np.array([[float(row[column]) for column in FEATURES] for row in rows])
    np.testing.assert_array_equal(hospital.features, values)
    assert hospital.labels.tolist() == [int(row[TARGET]) for row in rows]
    assert hospital.test.tolist() == [row[SPLIT] == "test" for row in rows]
