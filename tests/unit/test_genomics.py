"""Genotypes of any file become the columns that a plan names, and a damaged or a doubtful file does not get in unnoticed."""

import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data import DataManager
from common.datasets import GenotypeDataset, SurvivalDataset, TabularDataset, genomics
from common.datasets.families import family
from common.datasets.families.base import parsed
from common.datasets.families.detection import detected
from common.datasets.split import stable_ids
from common.datasets.variants import Variant, matched, parsed_variant, spans
from common.errors import (
    DataFileError,
    InvalidArgumentsError,
    InvalidDatasetError,
    MissingExtraError,
    MissingValuesError,
    OtherVariantsError,
    UnknownColumnError,
    UnknownVariantError,
)
from common.training_plans import FedSGDClassifier
from node.worker.protocol import DatasetSource
from node.worker.session import Session
from tests.support.cohorts import write_bed, write_people, write_vcf
from tests.support.tasks import DATASET, Desk

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "data-genomics.md"
PEOPLE = ["ann", "bob", "cid", "dee"]
SITES = {
    "chr1:100:A:G": ["0/0", "0|1", "1/1", "./."],
    "chr1:900000:c:T": ["0/1", "0/1", "0/0", "0/1"],
    "chrX:5:G:.": ["0/0", "0", "0/0", "0/0"],
    "chrX:7:G:C": ["0/0", "1", "0/1", "0"],
}
"""What the files hold; bob's X is there once."""
NAMES = ["1:100:A:G", "1:900000:C:T", "X:7:G:C"]
DOSAGES = [[0, 1, 0], [1, 1, 2], [2, 0, 1], [-1, 1, 0]]
ROWS = {"dee": [61, 0, 2.5], "ann": [30, 0, 1.0], "cid": [50, 1, 3.0], "bob": [40, 1, 0.5]}
OPTIONS = {"phenotypes": "people.tsv"}


@pytest.fixture
def cohort(tmp_path):
    root = tmp_path / "cohort"
    root.mkdir()
    write_people(root / "people.tsv", ROWS, ["age", "ill", "years"])
    write_vcf(root / "all.vcf.gz", SITES, PEOPLE)
    return root


@pytest.fixture
def array(tmp_path):
    """The same genotypes as PLINK files, other alleles first, with one variant more."""
    root = tmp_path / "array"
    root.mkdir()
    write_people(root / "people.tsv", ROWS, ["age", "ill", "years"])
    found = [[row[2], 2 - row[0] if row[0] >= 0 else np.nan, row[1], 1] for row in DOSAGES]
    write_bed(root / "a.bed", ["23:7:G:C", "1:100:G:A", "1:900000:C:T", "2:1:A:AT"], found, PEOPLE)
    return root


def inspected(path, **options):
    kind = family("genomics")
    return kind.inspect(path, parsed(kind.options, OPTIONS | options))


def people(**options):
    return TabularDataset([], "ill", **options)


def bound(path, variants=NAMES, table=None, parameters=None, **options):
    dataset = GenotypeDataset(variants, people() if table is None else table, **{"missing": -1.0} | options)
    dataset.bind(path, OPTIONS | (parameters or {}))
    dataset.fit(np.arange(len(dataset)))
    return dataset


def by_name(dataset, names=PEOPLE):
    """Return inputs in the order of `names`."""
    known = {one: index for index, one in enumerate(dataset.sample_ids().tolist())}
    return np.stack([dataset[known[one]][0] for one in stable_ids(names).tolist()])


# Description


def test_a_set_is_described_without_names_of_people_or_variants(cohort):
    found = inspected(cohort, build="GRCh38", units={"age": "years"})

    assert (4, (4, 4), 0) == (found.samples, found.shape, found.left_out)
    assert [
        ("variants", "GT of 4 variants, digest 137977a908e96208", 0, "GRCh38"),
        ("chromosome 1", "2 variants", 1, ""),
        ("chromosome X", "2 variants", 0, ""),
        ("age", "Int64", 0, "years"),
        ("ill", "Int64", 0, ""),
        ("years", "Float64", 0, ""),
    ] == [(one.name, one.dtype, one.missing, one.unit) for one in found.columns]


def test_the_kind_is_found_out_from_the_names_of_the_files(cohort, array):
    assert ["genomics", "genomics"] == [detected(cohort), detected(array)]


@pytest.mark.parametrize("where", ["cohort", "array"])
def test_the_first_people_can_be_looked_at(where, request):
    kind = family("genomics")

    first, _ = kind.preview(request.getfixturevalue(where), parsed(kind.options, OPTIONS), 2)

    assert ("ann", 30, 0.0) == (first["sample"], first["age"], first["X:7:G:C"])


# The same columns everywhere


@pytest.mark.parametrize("where", ["cohort", "array"])
def test_columns_are_those_of_the_plan_whatever_the_files_hold(where, request):
    path = request.getfixturevalue(where)

    dataset = bound(path, [NAMES[2], NAMES[0], NAMES[1]])

    np.testing.assert_array_equal(np.array(DOSAGES)[:, [2, 0, 1]], by_name(dataset))
    assert ([NAMES[2], NAMES[0], NAMES[1]], np.float32) == (dataset.features, dataset[0][0].dtype)
    assert [0, 0, 1, 1] == sorted(dataset[index][1] for index in range(4))


@pytest.mark.parametrize("where", ["cohort", "array"])
def test_a_dosage_is_turned_round_where_the_plan_counts_the_other_allele(where, request):
    dataset = bound(request.getfixturevalue(where), ["chr1:100:g:a"])

    np.testing.assert_array_equal([[2], [1], [0], [-1]], by_name(dataset))


def test_where_one_allele_was_seen_everybody_has_two_of_it(cohort):
    dataset = bound(cohort, ["X:5:G:T", "X:5:C:G"])

    np.testing.assert_array_equal([[0, 2]] * 4, by_name(dataset))


def test_variants_that_are_not_there_are_named(cohort):
    with pytest.raises(UnknownVariantError, match=r"2 of 3 variants .*: 1:100:A:T, 9:9:A:C") as caught:
        bound(cohort, ["1:100:A:T", "1:100:A:G", "9:9:A:C"])
    assert caught.value.public


def test_a_digest_stands_for_all_variants_that_are_offered(cohort):
    (cohort / "panel.txt").write_text("# agreed\nX:7:G:C\n1:100:G:A\n")
    parameters = {"variants": "panel.txt"}
    kind, *_ = inspected(cohort, **parameters).columns
    digest = kind.dtype[-16:]

    dataset = bound(cohort, digest, parameters=parameters)

    assert ["X:7:G:C", "1:100:G:A"] == dataset.features
    np.testing.assert_array_equal([[0, 2], [2, 1], [1, 0], [0, -1]], by_name(dataset))
    assert ["1:100:G:A"] == bound(cohort, digest, parameters=parameters, regions=["1"]).features
    with pytest.raises(OtherVariantsError, match=digest):
        bound(cohort, digest)
    with pytest.raises(UnknownVariantError, match="1:900000:C:T"):
        bound(cohort, NAMES, parameters=parameters)


def test_a_list_of_variants_that_the_files_lack_is_not_offered(cohort):
    (cohort / "panel.txt").write_text("5:5:A:C\n")

    with pytest.raises(UnknownVariantError, match="5:5:A:C"):
        inspected(cohort, variants="panel.txt")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1:5:A\n", "line 1 is not"), ("1:5:A:C\n1:5:C:A\n", "1:5:C:A is there twice"), ("#\n", "empty")],
)
def test_a_list_of_variants_must_be_one(cohort, text, reason):
    (cohort / "panel.txt").write_text(text)

    with pytest.raises(DataFileError, match=reason):
        inspected(cohort, variants="panel.txt")


@pytest.mark.parametrize("where", ["cohort", "array"])
def test_regions_choose_among_the_variants_of_the_plan(where, request):
    path = request.getfixturevalue(where)

    assert NAMES[:1] == bound(path, regions=["chr1:1-100", "3"]).features
    assert NAMES[1:] == bound(path, regions=["X", "1:101-900000"]).features
    with pytest.raises(InvalidArgumentsError, match="none lies in the regions"):
        bound(path, regions=["1:1-99"])


def test_a_rare_variant_is_zero_and_keeps_its_place(cohort):
    dataset = bound(cohort, ["1:100:A:G", "1:900000:T:C", "X:7:G:C"], missing="mean", min_frequency=0.376)

    np.testing.assert_array_equal([[0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 0]], by_name(dataset))


VARIANTS = st.builds(
    Variant,
    st.sampled_from(["1", "22", "X", "MT"]),
    st.integers(1, 2_000_000),
    st.sampled_from(["A", "AC"]),
    st.sampled_from(["G", "<INS:ME>"]),
)


@settings(max_examples=50)
@given(st.lists(VARIANTS, unique=True, min_size=1), st.randoms())
def test_the_order_and_the_alleles_of_files_do_not_matter(wanted, chance):
    files = [one if chance.random() < 0.5 else one.swapped for one in wanted]
    shuffled = chance.sample(files, len(files))

    local, swapped = matched(wanted, shuffled)

    assert wanted == [parsed_variant(str(one)) for one in wanted]
    assert files == list(local)
    assert [one != other for one, other in zip(wanted, files, strict=True)] == swapped.tolist()


@settings(max_examples=50)
@given(st.lists(VARIANTS))
def test_what_is_read_through_an_index_holds_every_variant_once(variants):
    found = spans(variants)

    assert [1] * len(variants) == [sum(part.holds(one) for part in found) for one in variants]


# Missing calls and moments


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(
    ("missing", "row"),
    [("mean", [1.5, 1, 0]), ("indicator", [1.5, 1, 0, 1, 0, 0]), (9.0, [9, 1, 0])],
)
def test_missing_calls_are_filled_from_the_training_part(cohort, monkeypatch, missing, row, in_memory):
    monkeypatch.setattr(genomics, "_IN_MEMORY_BYTES", 2**20 if in_memory else 0)
    dataset = bound(cohort, missing=missing)
    ids = dataset.sample_ids().tolist()
    dataset.fit(np.sort([ids.index(one) for one in stable_ids(["bob", "cid", "dee"])]))

    assert row == by_name(dataset)[3].tolist()
    assert in_memory == (dataset.arrays() is not None)
    assert len(row) == len(dataset.features)


def test_missing_calls_are_refused_or_their_people_dropped(cohort):
    with pytest.raises(MissingValuesError, match="column '1:100:A:G' has 1 missing values of 4"):
        bound(cohort, missing="refuse")
    assert 2 == len(bound(cohort, NAMES[1:], missing="refuse").features)

    dropped = bound(cohort, table=TabularDataset("age", "ill"), missing="drop")

    np.testing.assert_array_equal([[0, 1, 0, 30], [1, 1, 2, 40], [2, 0, 1, 50]], by_name(dropped, PEOPLE[:3]))
    np.testing.assert_array_equal(dropped.arrays()[0], [dropped[index][0] for index in range(3)])


def test_covariates_are_standardised_by_the_people_who_are_left(cohort):
    dataset = bound(cohort, table=TabularDataset("age", "ill", standardize=True), missing="drop")

    np.testing.assert_allclose([-1, 0, 1], by_name(dataset, PEOPLE[:3])[:, 3], atol=1e-6)


def test_a_mean_of_nobody_is_refused(cohort):
    dataset = bound(cohort, missing="mean")
    (dee,) = (dataset.sample_ids().tolist().index(one) for one in stable_ids(["dee"]))

    with pytest.raises(MissingValuesError, match="1:100:A:G"):
        dataset.fit(np.array([dee]))


def test_variants_are_standardised_by_the_training_part_or_by_given_moments(cohort):
    own = by_name(bound(cohort, standardize=True, missing="mean"))
    given = by_name(bound(cohort, standardize={"1:100:A:G": (1.0, 0.5)}))

    np.testing.assert_allclose([-1, 0, 1, 0], own[:, 0], atol=1e-6)
    np.testing.assert_allclose(own[:, 1], (np.array([1, 1, 0, 1]) - 0.75) / 0.5, atol=1e-6)
    np.testing.assert_allclose([-2, 0, 2, -4], given[:, 0], atol=1e-6)
    np.testing.assert_array_equal([0, 2, 1, 0], given[:, 2])


def test_a_set_to_validate_on_is_filled_as_the_other_is(cohort, array):
    manager = DataManager(GenotypeDataset(NAMES, people(), missing="mean", standardize=True), batch_size=None)
    apart = DataManager(GenotypeDataset(NAMES, people(), missing="mean", standardize=True), batch_size=None)
    manager.bind(cohort, OPTIONS | {"leave_out": ["ann"]}, data_type="genomics")
    apart.bind(array, OPTIONS)

    parts = manager.split(test_ratio=0, seed=1, test_set=apart)

    ((data, _),) = parts.test
    assert (3, 4) == (parts.train.samples, parts.test.samples)
    np.testing.assert_allclose(sorted([-1.5, -0.5, 0.5, 0.0]), sorted(data[:, 0] * 0.5**0.5), atol=1e-6)


# People


def test_people_are_joined_by_name_and_incomplete_ones_follow_the_rule(cohort):
    rows = {"zoe": [1, 1, 1.0]} | {name: row for name, row in ROWS.items() if name != "bob"}
    write_people(cohort / "people.tsv", rows, ["age", "ill", "years"])

    with pytest.raises(DataFileError, match=r"1 people with genotypes are not in people\.tsv, and 1 in it"):
        inspected(cohort)
    found = inspected(cohort, incomplete="leave_out", leave_out=["dee"])

    assert (2, 3) == (found.samples, found.left_out)
    dataset = bound(cohort, table=TabularDataset("age", "ill"), parameters={"leave_out": ["dee"]})
    np.testing.assert_array_equal([[0, 1, 0, 30], [2, 0, 1, 50]], by_name(dataset, ["ann", "cid"]))


def test_people_without_any_call_are_refused_or_left_out_and_counted(cohort):
    write_vcf(cohort / "all.vcf.gz", {site: [*calls[:3], "./."] for site, calls in SITES.items()}, PEOPLE)

    with pytest.raises(
        DataFileError, match="1 of 4 samples cannot be read, the first is dee: it has no call"
    ):
        inspected(cohort)
    found = inspected(cohort, on_broken="skip")

    assert (3, {"dee": "it has no call at all"}) == (found.samples, found.broken)
    assert 3 == len(bound(cohort, parameters={"broken": list(found.broken)}))


def test_nobody_left_is_an_error(cohort):
    with pytest.raises(DataFileError, match="nobody in it"):
        bound(cohort, parameters={"leave_out": PEOPLE})


def test_gaps_of_the_table_follow_its_own_rules_and_those_of_others_do_not_count(cohort):
    write_people(
        cohort / "people.tsv", ROWS | {"bob": ["", 1, 0.5], "zoe": ["", 1, 1]}, ["age", "ill", "years"]
    )

    assert 3 == len(bound(cohort, table=TabularDataset("age", "ill", missing="drop")))
    with pytest.raises(MissingValuesError, match="'age' has 1 missing values of 4"):
        bound(cohort, table=TabularDataset("age", "ill"))


def test_times_until_an_event_can_be_the_target(cohort):
    _, target = bound(cohort, table=SurvivalDataset([], "years", "ill")).arrays()

    assert [[0.5, 1], [1, 0], [2.5, 0], [3, 1]] == sorted(target.tolist())


def test_a_split_column_decides(cohort):
    write_people(
        cohort / "people.tsv",
        {name: [index % 2, "test" if name == "cid" else "train"] for index, name in enumerate(PEOPLE[::-1])},
        ["ill", "part"],
    )
    manager = DataManager(GenotypeDataset(NAMES, people(), missing="drop"), batch_size=None)
    manager.bind(cohort, OPTIONS | {"split_column": "part"})

    ((data, _),) = manager.split(test_ratio=0.9, seed=1).test

    assert [[2, 0, 1]] == data.tolist()


def test_the_split_does_not_depend_on_other_people_or_the_order_of_files(cohort, array):
    few = bound(cohort, parameters={"leave_out": ["ann"]}).sample_ids()

    assert set(few.tolist()) < set(bound(array).sample_ids().tolist())


def test_transforms_and_torch_loaders_take_people_one_by_one(cohort):
    dataset = GenotypeDataset(NAMES, people(), missing="mean", transform=lambda row: row[:2] + 1)
    manager = DataManager(dataset, batch_size=4)
    manager.bind(cohort, OPTIONS)

    ((data, target),) = manager.split(test_ratio=0, seed=1).train

    assert ((4, 2), torch.float32, torch.int64) == (tuple(data.shape), data.dtype, target.dtype)
    assert dataset.arrays() is None


# Files


def test_files_of_one_cohort_are_read_as_one_in_any_order_of_people(cohort):
    for name, sites in (("b.vcf", [2, 3]), ("a.vcf.gz", [0, 1])):
        chosen = {site: SITES[site] for site in [list(SITES)[place] for place in sites]}
        order = [3, 1, 0, 2] if name == "b.vcf" else [0, 1, 2, 3]
        write_vcf(
            cohort / name,
            {site: [calls[place] for place in order] for site, calls in chosen.items()},
            [PEOPLE[place] for place in order],
        )
    parameters = {"genotypes": ["a.vcf.gz", "b.vcf"]}

    assert (4, 4) == inspected(cohort, **parameters).shape
    np.testing.assert_array_equal(DOSAGES, by_name(bound(cohort, parameters=parameters)))
    with pytest.raises(DataFileError, match="is there twice"):
        inspected(cohort)


def test_files_of_other_people_do_not_belong_together(cohort):
    write_vcf(cohort / "b.vcf", {"2:1:A:C": ["0/0"]}, ["ann"])

    with pytest.raises(DataFileError, match=r"b\.vcf .* other samples than all\.vcf\.gz"):
        inspected(cohort)


def test_imputed_dosages_keep_their_fractions(cohort):
    write_vcf(cohort / "all.vcf.gz", {"1:100:A:G,T": ["0.25,0", "1.5,.", ".,1", "2,0"]}, PEOPLE, field="DS")
    parameters = {"field": "DS", "multiallelic": "split"}

    dataset = bound(cohort, ["1:100:A:T", "1:100:G:A"], parameters=parameters)

    np.testing.assert_allclose([[0, 1.75], [-1, 0.5], [1, -1], [0, 0]], by_name(dataset))
    with pytest.raises(DataFileError, match="has no GT; say field=DS"):
        inspected(cohort, multiallelic="split")


def test_dosages_out_of_range_are_refused(cohort):
    write_vcf(cohort / "all.vcf.gz", {"1:100:A:G": ["2.5"] * 4}, PEOPLE, field="DS")

    with pytest.raises(DataFileError, match="not between 0 and 2"):
        inspected(cohort, field="DS")


def test_sites_with_several_alleles_are_refused_or_split(cohort):
    write_vcf(cohort / "all.vcf.gz", {"1:100:A:G,T": ["0/0", "1/2", "2/2", "./2"]}, PEOPLE)

    with pytest.raises(DataFileError, match=r"1:100 has 2 other alleles; .* multiallelic=split"):
        inspected(cohort)
    dataset = bound(cohort, ["1:100:A:T", "1:100:A:G"], parameters={"multiallelic": "split"})

    np.testing.assert_array_equal([[0, 0], [1, 1], [2, 0], [-1, -1]], by_name(dataset))


def test_a_packed_file_needs_its_index(cohort):
    (cohort / "all.vcf.gz.csi").unlink()

    with pytest.raises(
        DataFileError, match=r"all\.vcf\.gz .* no index beside it; .*`bcftools index all\.vcf\.gz`"
    ):
        inspected(cohort)


def rewritten(change):
    """Return what changes the text of a plain VCF file."""

    def damage(root):
        for path in root.glob("all.*"):
            path.unlink()
        path = write_vcf(root / "all.vcf", SITES, PEOPLE)
        path.write_bytes(change(path.read_bytes()))

    return damage


def cut(root, name, size):
    path = root / name
    path.write_bytes(path.read_bytes()[:size])


VCF_DAMAGES = [
    (lambda root: cut(root, "all.vcf.gz", -28), "ends too early"),
    (lambda root: cut(root, "all.vcf.gz", -40), "ends too early"),
    (lambda root: cut(root, "all.vcf.gz", 60), "header is wrong"),
    (lambda root: (root / "all.vcf.gz").write_bytes(b"none"), "header is wrong"),
    (rewritten(lambda text: text[:-3]), "ends too early"),
    (rewritten(lambda text: text + b"chr1\t5\n"), "damaged, or has too many"),
    (rewritten(lambda text: text + b"chr1\t5\t.\tA\tC\t.\t.\t.\tGT\t0/0\n"), "too few samples"),
    (rewritten(lambda text: text.replace(b"1/1", b"1/7")), "one that is not there"),
    (rewritten(lambda text: text.replace(b"1/1", b"1/1/1")), "more than two alleles"),
    (rewritten(lambda text: text.replace(b"cid", b"ann")), "sample 'ann' is in its header twice"),
    (
        rewritten(lambda text: text.replace(b"chr1\t900000\t.\tc\tT", b"chr1\t100\t.\tG\tA")),
        "1:100:G:A is there twice",
    ),
    (rewritten(lambda text: b""), "names no samples"),
    (rewritten(lambda text: text.replace(b"##fileformat=VCFv4.2", b"##")), "header is wrong"),
]


@pytest.mark.parametrize(
    ("damage", "reason"), VCF_DAMAGES, ids=[str(place) for place in range(len(VCF_DAMAGES))]
)
def test_a_damaged_vcf_file_is_refused_by_name(cohort, damage, reason):
    damage(cohort)

    with pytest.raises(DataFileError, match=reason) as caught:
        inspected(cohort)
    assert "cohort" in str(caught.value)


def test_a_line_that_would_fill_the_memory_is_refused(cohort, monkeypatch):
    monkeypatch.setattr("common.datasets.vcf._LONGEST_LINE", 200)
    monkeypatch.setattr("common.datasets.vcf._CHUNK", 64)
    rewritten(lambda text: text + b"chr2\t5\t" + b"x" * 200)(cohort)

    with pytest.raises(DataFileError, match="a line has more than 200 bytes"):
        inspected(cohort)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda root: cut(root, "a.bed", -1), r"it has 6 bytes, and by its bim and fam files 7"),
        (lambda root: (root / "a.bed").write_bytes(b"bed"), "does not begin as such files do"),
        (lambda root: (root / "a.bim").unlink(), r"a\.bim .* put it beside the bed file"),
        (lambda root: (root / "a.bim").write_text("1 x 0\n"), "line 1 has 3 fields"),
        (lambda root: (root / "a.bim").write_text("1 x 0 here A C\n"), "line 1 has no position"),
        (
            lambda root: (root / "a.fam").write_text("0 ann 0 0 0 0\n0 ann 0 0 0 0\n"),
            r"a\.fam .*'ann' is in it twice",
        ),
        (
            lambda root: (root / "a.fam").write_text("".join(f"0 p{one} 0 0 0 0\n" for one in range(9))),
            "people with genotypes are not in|it has 7 bytes, and by its bim and fam files 15",
        ),
    ],
)
def test_plink_files_that_do_not_fit_together_are_refused(array, damage, reason):
    damage(array)

    with pytest.raises(DataFileError, match=reason):
        inspected(array)


def test_plink_files_by_person_are_read_too(array):
    from bed_reader import open_bed, to_bed

    with open_bed(array / "a.bed", iid_count=4, sid_count=4) as reader:
        values = reader.read()
    values = np.concatenate([values, values[:, :1]], axis=1)
    with (array / "a.bim").open("a") as file:
        file.write("3 . 0 5 C A\n")
    to_bed(array / "a.bed", values, fam_filepath="/dev/null", bim_filepath="/dev/null", major="individual")

    assert (4, 5) == inspected(array).shape
    np.testing.assert_array_equal(DOSAGES, by_name(bound(array)))


@pytest.mark.parametrize("name", ["all.vcf.gz", "people.tsv"])
def test_links_out_of_the_folder_are_refused(cohort, tmp_path, name):
    (cohort / name).rename(tmp_path / name)
    (cohort / name).symlink_to(tmp_path / name)

    with pytest.raises(DataFileError, match="link to outside the folder"):
        inspected(cohort)
    with pytest.raises(DataFileError, match="link to outside the folder"):
        bound(cohort)


def test_a_table_with_a_person_twice_is_refused(cohort):
    with (cohort / "people.tsv").open("a") as file:
        file.write("ann\t1\t1\t1\n")

    with pytest.raises(DataFileError, match="sample 'ann' twice; keep one row"):
        inspected(cohort)


def test_columns_and_options_that_are_not_there_are_told(cohort):
    with pytest.raises(UnknownColumnError):
        inspected(cohort, sample_column="iid")
    with pytest.raises(InvalidDatasetError, match="phenotypes"):
        parsed(family("genomics").options, {})
    with pytest.raises(DataFileError, match="outside"):
        inspected(cohort, phenotypes="../people.tsv")
    with pytest.raises(DataFileError, match="no folder"):
        inspected(cohort / "people.tsv")
    (cohort / "all.vcf.gz").unlink()
    with pytest.raises(DataFileError, match=r"no \.vcf"):
        inspected(cohort)


def test_too_little_room_for_dosages_is_told_before_any_is_written(cohort, monkeypatch):
    monkeypatch.setattr(genomics, "_IN_MEMORY_BYTES", 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        with pytest.raises(DataFileError, match=r"12 bytes of dosages do not fit .* choose fewer variants"):
            bound(cohort)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("where", "module", "package"), [("cohort", "cyvcf2", "cyvcf2"), ("array", "bed_reader", "bed-reader")]
)
def test_without_a_library_the_error_says_how_to_install_it(request, monkeypatch, where, module, package):
    path = request.getfixturevalue(where)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingExtraError, match=package) as caught:
        inspected(path)
    assert 'install it: pip install "warren-fl[genomics]"' == caught.value.advice


@pytest.mark.parametrize(
    "wrong",
    [
        {"variants": ["1:5:A"]},
        {"variants": ["1:5:A:A"]},
        {"variants": ["1:5:A:C", "chr1:5:C:A"]},
        {"regions": ["1:9-5"]},
        {"regions": ["1:x"]},
        {"min_frequency": 0.6},
    ],
)
def test_variants_regions_and_frequencies_must_be_such(wrong):
    with pytest.raises(InvalidArgumentsError):
        GenotypeDataset(**{"variants": NAMES, "phenotypes": people()} | wrong)


# Plans


class LinearPlan(FedSGDClassifier):
    """Tell the ill from the well by three variants and the age."""

    def training_data(self):
        table = TabularDataset("age", "ill", standardize=True)
        return DataManager(GenotypeDataset(["1:100:A:G", "1:900000:C:T", "X:7:G:C"], table, missing="mean"))


def trained(folder, path, plan, **model_args):
    desk = Desk(folder, plan)
    desk.write_model(**model_args)
    source = DatasetSource(dataset_id=DATASET, data_type="genomics", path=str(path), parameters=OPTIONS)
    return (
        Session()
        .run(desk.task(dataset=source, model_args=model_args, args={"test_ratio": 0.25}), lambda point: None)
        .done
    )


def test_the_plan_of_the_how_to_trains(tmp_path):
    (source,) = re.findall(r"```python\n(import torch.*?)```", PAGE.read_text(), re.DOTALL)
    variants = re.findall(r"\d+:\d+:\w:\w", source.partition("class")[0])
    names = [f"p{index}" for index in range(8)]
    write_vcf(tmp_path / "a.vcf.gz", {name: ["0/1", "1/1"] * 4 for name in variants}, names)
    rows = {
        name: [50 + index, "FM"[index % 2], ("no", "yes")[index % 3 > 0]] for index, name in enumerate(names)
    }
    write_people(tmp_path / "people.tsv", rows, ["age", "sex", "ill"])

    done = trained(tmp_path, tmp_path, source)

    assert (3, 6, 2) == (len(variants), done.samples_train, done.samples_test)


def test_plans_of_scikit_learn_take_genotypes_too(cohort, tmp_path):
    done = trained(tmp_path, cohort, LinearPlan, n_features=4, n_classes=2)

    assert (3, 1) == (done.samples_train, done.samples_test)
