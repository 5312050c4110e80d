"""Compare the survival of patients with and without a treatment, over hospitals that differ in much else."""

from common.data import DataManager
from common.datasets import TabularDataset
from common.training_plans import FedCoxPH

COLUMNS = ("age", "stage", "treated")


class SurvivalPlan(FedCoxPH):
    """Cox regression on age, stage and treatment, with a baseline hazard of its own for each hospital."""

    def training_data(self) -> DataManager:
        """Return the patients of this hospital; `time` in any unit, and `event` 1 for a death, 0 for the end of observation."""
        return DataManager(TabularDataset(COLUMNS, ["time", "event"], missing="drop", dtype="float64"))
