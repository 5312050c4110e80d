"""Describe nodes and their data sets to others: never a path, never a value."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from common.ids import DatasetId
from common.messages.base import Count, Name, Part, Tag, Text, UnixTime

CATEGORIES: Final = 100
"""Most categories of one column that are told."""


class Column(Part):
    """One column of a tabular data set."""

    name: Name
    dtype: Name
    missing: Count = 0
    """Number of missing values."""
    unit: Annotated[str, Field(max_length=50)] = ""
    """As the people of the node say."""
    categories: Annotated[tuple[Name, ...], Field(max_length=CATEGORIES)] = ()
    """What occurs in it, sorted; none unless the people of the node let others know."""


class DatasetDescription(Part):
    """What a node tells about one data set."""

    dataset_id: DatasetId
    name: Name
    data_type: Name
    tags: Annotated[tuple[Tag, ...], Field(max_length=50)]
    description: Text
    samples: Count
    shape: Annotated[tuple[Count, ...], Field(max_length=8)]
    columns: Annotated[tuple[Column, ...], Field(max_length=2000)] = ()
    """Of a table; of others, what a sample consists of."""
    classes: Annotated[tuple[Name, ...], Field(max_length=2000)] = ()
    """Their names, in the order of their numbers."""
    left_out: Count = 0
    """Samples that are registered and not used, because they cannot be read or must not be; `samples` does not count them."""
    available: bool = True
    """Whether tasks may run on it: not while its files have changed and nobody at the node has looked at that."""


class NodeInfo(Part):
    """What a node tells about itself."""

    version: Name
    python: Name
    started_at: UnixTime
    max_workers: Count
    running: Count
    waiting: Count
    datasets: Count
    plan_approval: bool
    """Whether the node runs approved plans only."""
