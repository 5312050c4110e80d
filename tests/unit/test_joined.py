"""Two data sets of a node are joined by whose their samples are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from common.data import DataManager
from common.datasets import CustomDataset, ImageFolderDataset, JoinedDataset, MnistDataset, TabularDataset
from common.errors import (
    InvalidArgumentsError,
    NotJoinableError,
    PlanContractError,
    WrongDataTypeError,
)
from common.messages import by_name
from common.training_plans import FedSGDClassifier, TorchTrainingPlan
from common.training_plans.source import plan_source
from node.worker.protocol import DatasetSource
from node.worker.session import Session
from tests.support.tasks import DATASET, Desk

AGES = {f"p{index:02}": 20.0 + index for index in range(30)}
OPTIONS = {"id_column": "patient"}


class PairPlan(TorchTrainingPlan):
    """Learn from two tables."""

    def init_model(self, model_args):
        return torch.nn.Linear(2, 1)

    def init_optimizer(self, optimizer_args):
        return torch.optim.SGD(self.model().parameters(), lr=0.0001)

    def training_step(self, data, target):
        return torch.nn.functional.mse_loss(self.model()(torch.cat(data, dim=1)).squeeze(1), target.float())

    def training_data(self):
        return DataManager(
            JoinedDataset(TabularDataset("visit", "ill"), TabularDataset("age", [])), batch_size=8
        )


class SinglePlan(PairPlan):
    """Learn from one table."""

    def training_data(self):
        return DataManager(TabularDataset("visit", "ill"), batch_size=8)


class JoinedClassifier(FedSGDClassifier):
    """Tell who is ill, from an image and an age."""

    def training_data(self):
        images = ImageFolderDataset(classes=["ill", "well"], mode="L")
        return DataManager(JoinedDataset(images, TabularDataset("age", [])), batch_size=8)


def visits(tmp_path, patients=AGES, each=2):
    """Write a table of visits: so many of each patient."""
    rows = [f"{patient},{visit},{visit % 2}" for patient in patients for visit in range(each)]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["patient,visit,ill", *rows]) + "\n")
    return path


def ages(tmp_path, known=AGES):
    path = tmp_path / "ages.csv"
    path.write_text("\n".join(["patient,age", *(f" {one} ,{age}" for one, age in known.items())]) + "\n")
    return path


def images(tmp_path):
    for index, patient in enumerate(AGES):
        path = tmp_path / "scans" / ("ill", "well")[index % 2] / f"{patient}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), index, np.uint8)).save(path)
    return tmp_path / "scans"


def joined(first, second, sets=None, second_options=OPTIONS, **options):
    dataset = JoinedDataset(*(sets or (TabularDataset("visit", "ill"), TabularDataset("age", []))), **options)
    manager = DataManager(dataset, batch_size=None, shuffle=False)
    manager.bind(first, OPTIONS, data_type="tabular")
    manager.join(second, second_options, data_type="tabular")
    manager.split(test_ratio=0.0, seed=0)
    return manager, dataset


def test_each_sample_of_the_first_gets_the_one_of_its_subject(tmp_path):
    shuffled = dict(reversed(AGES.items()))
    _, dataset = joined(visits(tmp_path), ages(tmp_path, shuffled))

    found = [(float(visit[0]), float(age[0])) for (visit, age), _ in map(dataset.__getitem__, range(6))]
    assert [(0, 20), (1, 20), (0, 21), (1, 21), (0, 22), (1, 22)] == found


def test_the_target_is_that_of_the_set_that_is_named(tmp_path):
    sets = TabularDataset("visit", "ill"), TabularDataset([], "age")
    targets = {
        which: joined(visits(tmp_path), ages(tmp_path), sets, target=which)[1][3][1]
        for which in ("first", "second")
    }

    assert {"first": 1, "second": 21.0} == targets


def test_samples_without_a_partner_are_left_out_or_refused(tmp_path):
    some = {"p03": 1.0, "p07": 2.0, "stranger": 3.0}
    paths = visits(tmp_path), ages(tmp_path, some)

    assert 4 == len(joined(*paths)[1])
    with pytest.raises(NotJoinableError, match="56 samples of the first have no partner"):
        joined(*paths, unmatched="refuse")


def test_a_subject_is_in_one_part_and_stays_there_when_others_come(tmp_path):
    def parts(patients):
        manager, dataset = joined(visits(tmp_path, patients), ages(tmp_path))
        train, test = manager._rows(0.4, 7, None)
        subjects = dataset.sample_ids()
        return set(subjects[train]), set(subjects[test])

    train, test = parts(AGES)
    fewer = parts(dict(list(AGES.items())[10:]))

    assert not train & test
    assert test
    assert train >= fewer[0]
    assert test >= fewer[1]


def test_a_split_that_the_second_set_marks_is_kept(tmp_path):
    path = tmp_path / "ages.csv"
    rows = [f"{one},{age},{'test' if one == 'p05' else 'train'}" for one, age in AGES.items()]
    path.write_text("\n".join(["patient,age,part", *rows]) + "\n")
    _, dataset = joined(visits(tmp_path), path, second_options={**OPTIONS, "split_column": "part"})

    assert [10, 11] == dataset.test_rows().tolist()


def test_the_second_set_learns_from_each_training_subject_once(tmp_path):
    sets = TabularDataset("visit", "ill"), TabularDataset("age", [], standardize=True)
    manager, _ = joined(visits(tmp_path, each=3), ages(tmp_path), sets)
    moments, train, test = manager.measure(test_ratio=0.3, seed=2)

    (age,) = moments
    assert (3 * age.count, 90 - 3 * age.count) == (train, test)
    parts = manager.split(test_ratio=0.3, seed=2)
    given = manager.split(test_ratio=0.3, seed=2, moments=by_name(moments))
    locally, federated = (next(iter(one.train))[0][1] for one in (parts, given))
    assert torch.allclose(locally, federated)
    assert torch.allclose(locally[::3].mean(), torch.tensor(0.0), atol=1e-5)


def test_one_name_for_two_columns_with_moments_is_refused(tmp_path):
    sets = (
        TabularDataset("age", [], standardize=True),
        TabularDataset("age", [], standardize=True),
    )
    manager, _ = joined(ages(tmp_path), ages(tmp_path), sets)

    with pytest.raises(NotJoinableError, match="both standardise a column 'age'"):
        manager.measure(test_ratio=0.0, seed=1)


@pytest.mark.parametrize(
    ("second", "options", "reason"),
    [
        ({"x": 1.0}, OPTIONS, "no subject is in both"),
        (AGES, {}, "the second does not say whose its samples are"),
    ],
)
def test_sets_that_have_no_subjects_in_common_are_refused(tmp_path, second, options, reason):
    with pytest.raises(NotJoinableError, match=reason):
        joined(visits(tmp_path), ages(tmp_path, second), second_options=options)


def test_a_second_set_with_two_samples_of_one_subject_is_refused(tmp_path):
    with pytest.raises(NotJoinableError, match="30 samples more than subjects"):
        joined(ages(tmp_path), visits(tmp_path), (TabularDataset("age", []), TabularDataset("visit", "ill")))


def test_digits_have_no_subjects_and_a_custom_set_says_which():
    class Own(CustomDataset):
        def read(self):
            pass

        def get_item(self, index):
            return index, index

        def __len__(self):
            return 1

    assert None is MnistDataset().subjects()
    assert None is Own().subjects()


def test_the_second_set_has_a_type_of_its_own(tmp_path):
    manager = DataManager(JoinedDataset(TabularDataset("visit", "ill"), ImageFolderDataset()))
    manager.bind(visits(tmp_path), OPTIONS, data_type="tabular")

    with pytest.raises(
        WrongDataTypeError, match="reads images or mednist data sets, and this one is registered as tabular"
    ):
        manager.join(ages(tmp_path), OPTIONS, data_type="tabular")


def test_wrong_options_are_refused():
    with pytest.raises(InvalidArgumentsError, match="target should be first or second"):
        JoinedDataset(ImageFolderDataset(), ImageFolderDataset(), target="both")


# In a worker


def sources(first, second, kind="tabular"):
    return {
        "dataset": DatasetSource(
            dataset_id=DATASET,
            data_type=kind,
            path=str(first),
            parameters=OPTIONS if kind == "tabular" else {},
        ),
        "joined_dataset": second
        and DatasetSource(dataset_id=DATASET, data_type="tabular", path=str(second), parameters=OPTIONS),
    }


def test_a_worker_trains_on_both_sets(tmp_path):
    desk = Desk(tmp_path, plan_source(PairPlan).replace("PairPlan", "Plan"))
    desk.write_model()
    task = desk.task(args={"test_ratio": 0.3}, **sources(visits(tmp_path), ages(tmp_path)))

    done = Session().run(task, lambda _: None).done

    assert 60 == done.samples_train + done.samples_test
    assert 0 == done.samples_train % 2


@pytest.mark.parametrize(
    ("plan", "second", "reason"),
    [
        (PairPlan, False, "joins two data sets, and the experiment names no second"),
        (SinglePlan, True, "joins nothing, and the experiment names a second"),
    ],
)
def test_plan_and_experiment_have_to_agree_on_the_join(tmp_path, plan, second, reason):
    desk = Desk(tmp_path, plan)
    desk.write_model()
    first = visits(tmp_path)

    with pytest.raises(PlanContractError, match=reason):
        Session().run(desk.task(**sources(first, ages(tmp_path) if second else None)), lambda _: None)


def test_a_plan_of_scikit_learn_takes_images_and_covariates_side_by_side(tmp_path):
    desk = Desk(tmp_path, JoinedClassifier)
    model_args = {"n_features": 17, "n_classes": 2}
    desk.write_model(**model_args)

    done = (
        Session()
        .run(
            desk.task(model_args=model_args, **sources(images(tmp_path), ages(tmp_path), "images")),
            lambda _: None,
        )
        .done
    )

    assert 30 == done.samples_train
    desk.write_model(**model_args | {"n_features": 16})
    with pytest.raises(
        PlanContractError, match=r"gives inputs of \[\[1, 4, 4\], \[1\]\], and n_features is 16"
    ):
        Session().run(
            desk.task(
                model_args=model_args | {"n_features": 16},
                **sources(tmp_path / "scans", tmp_path / "ages.csv", "images"),
            ),
            lambda _: None,
        )
