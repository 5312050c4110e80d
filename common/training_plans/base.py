"""Define what every training plan offers, whatever learns in it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from common.errors import PlanContractError
from common.training_args import TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.preprocess import Preprocessed, ProcessTypes

if TYPE_CHECKING:
    from torch import Tensor

    from common.data import DataManager, Loader
    from common.messages import LossPoint
    from common.payload.tensors import SavedTensors

T = TypeVar("T")


class TrainingPlan(ABC):
    """What a researcher writes: a model, its data, and one step of training.

    A plan is made without arguments and prepared by whoever runs it: the researcher to get the first model, a node to train.
    Its methods may take the arguments that belong to them, or none: `init_model(self, model_args)` or `init_model(self)`.
    """

    _model_args: Mapping[str, Any] = {}
    _training_args: TrainingArgs = TrainingArgs(num_updates=0)
    _node_id: str = ""
    _round: int = 0
    _device: str = "cpu"
    _preprocesses: Mapping[str, Callable[..., Any]] = {}
    _dataset_path: Path | None = None

    @abstractmethod
    def training_data(self) -> DataManager:
        """Return the data set and how to batch it."""

    @abstractmethod
    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; what it is at first depends on the arguments alone, wherever it is built.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If a method returns the wrong thing.
        """

    @abstractmethod
    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Train as the training arguments say and return the number of samples seen, each time counted.

        Args:
            loader: The training part of the data set.
            report: Takes points of the loss curve.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If a method returns the wrong thing, or there is nothing to train on.
        """

    @abstractmethod
    def validate(self, loader: Loader) -> dict[str, float | None]:
        """Return the metrics of the model over a whole part of a data set; a value that is not finite becomes none.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If a method returns the wrong thing.
        """

    @abstractmethod
    def after_training_params(self) -> Mapping[str, Tensor]:
        """Return the tensors to send: names, shapes and dtypes are those of `export_model`."""

    @abstractmethod
    def export_model(self, path: Path | str) -> SavedTensors:
        """Write the model's tensors to a safetensors file, whole or not at all."""

    @abstractmethod
    def import_model(self, path: Path | str) -> None:
        """Read the model's tensors from a safetensors file; nothing changes if they do not fit.

        Raises:
            InvalidTensorsError: If the file is not valid safetensors.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """

    def init_dependencies(self) -> list[str]:
        """Return import lines that the plan needs beyond what its file imports."""
        return []

    def model_args(self) -> dict[str, Any]:
        """Return the arguments that the researcher gave for the model."""
        return dict(self._model_args)

    def training_args(self) -> dict[str, Any]:
        """Return the training arguments that the researcher gave, with defaults filled in."""
        return self._training_args.model_dump()

    def optimizer_args(self) -> dict[str, Any]:
        """Return the arguments that the researcher gave for the optimizer."""
        return dict(self._training_args.optimizer_args)

    def loader_args(self) -> dict[str, Any]:
        """Return the arguments that the researcher gave for the loader."""
        return dict(self._training_args.loader_args)

    def node_id(self) -> str:
        """Return the id of the node that the plan runs at; empty at the researcher."""
        return self._node_id

    def round(self) -> int:
        """Return the number of the round, from 1; 0 before the plan was prepared for one."""
        return self._round

    def device_name(self) -> str:
        """Return the name of the device that the plan computes on, `cpu` or `cuda`."""
        return self._device

    @property
    def dataset_path(self) -> Path:
        """Return where the node keeps the data set, for plans that read it themselves.

        Raises:
            PlanContractError: At the researcher, who has no data.
        """
        if self._dataset_path is None:
            self.breaks_contract("dataset_path", "is known at nodes only")
        return self._dataset_path

    def add_preprocess(
        self, method: Callable[..., Any], process_type: ProcessTypes = ProcessTypes.DATA_LOADER
    ) -> None:
        """Let a method change the batches to train on; call this in `training_data`.

        Args:
            method: Takes the loader of the training part and returns the batches of one pass: a list, a generator, or another loader.
                It is called for each pass; several methods follow one another, and of those with the same name the last one counts.
            process_type: What the method changes.

        Raises:
            PlanContractError: If the method cannot be called, or changes something else.
        """
        if not callable(method) or not isinstance(process_type, ProcessTypes):
            self.breaks_contract("add_preprocess", "takes a method and one of ProcessTypes")
        name = getattr(method, "__name__", repr(method))
        self._preprocesses = {**self._preprocesses, name: method}

    def preprocessed(self, loader: Loader) -> Loader:
        """Return a loader with what the methods of `add_preprocess` make of its batches."""
        for method in self._preprocesses.values():
            loader = Preprocessed(self, loader, method)
        return loader

    def source(self) -> str:
        """Return the text that nodes approve and run.

        Raises:
            PlanSourceError: If something that the class uses cannot be written down; names it.
        """
        from common.training_plans.source import plan_source  # which needs this module

        return plan_source(type(self))

    def save_code(self, path: Path | str) -> None:
        """Write the text that nodes approve and run to a file; raises as `source`."""
        Path(path).write_text(self.source(), encoding="utf-8")

    def enter(
        self,
        *,
        node_id: str,
        round_: int,
        training_args: TrainingArgs,
        dataset_path: Path | None = None,
        device: str = "cpu",
    ) -> None:
        """Tell the plan where, when, how and on which device it runs; called by a node before each task."""
        self._node_id = node_id
        self._round = round_
        self._training_args = training_args
        self._dataset_path = dataset_path
        self._device = device

    def breaks_contract(self, method: str, problem: str) -> NoReturn:
        """Raise PlanContractError about one of the plan's methods."""
        raise PlanContractError(plan=type(self).__name__, method=method, problem=problem)

    def call(self, method: Callable[..., T], **offered: object) -> T:
        """Call one of the plan's own methods with those of the offered arguments that it takes.

        Arguments go by name; a parameter with a name of the plan's own and no default gets the first of them.

        Raises:
            PlanFailedError: If a line of the plan raises; says which.
            PlanContractError: If calling it fails elsewhere.
        """
        with PlanCode(type(self), method.__name__):
            parameters = inspect.signature(method).parameters
            named = {name: value for name, value in offered.items() if name in parameters}
            own = any(
                parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
                for name, parameter in parameters.items()
                if name not in named
            )
            return method(*list(offered.values())[: int(own)], **named)
