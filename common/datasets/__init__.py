"""Give the files of a hospital to a training plan."""

from common.datasets.base import Dataset
from common.datasets.inspection import Table, inspect_tabular
from common.datasets.tabular import TabularDataset

__all__ = ["Dataset", "Table", "TabularDataset", "inspect_tabular"]
