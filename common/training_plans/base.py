"""Define what every training plan offers, whatever learns in it."""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from typing_extensions import TypeVar

from common.errors import PlanContractError
from common.training_args import TrainingArgs
from common.training_plans.guard import PlanCode
from common.training_plans.preprocess import Preprocessed, ProcessTypes

if TYPE_CHECKING:
    from torch import Tensor

    from common.data import DataManager, Loader
    from common.messages import LossPoint
    from common.payload.tensors import SavedTensors
    from common.training_plans.steering import Steering
    from common.training_plans.validation import Validated

T = TypeVar("T")
P_co = TypeVar("P_co", bound="TrainingPlan", covariant=True, default="TrainingPlan")
"""The plan of an experiment, for type checkers."""

Tag = Literal["local", "persistent"]
"""`local` tensors are never sent, `persistent` ones are kept on the node between rounds."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What one training took.

    Attributes:
        steps: Optimisation steps; 0 if the plan does not count them.
        lr_sum: Sum of the learning rates of these steps; None if the optimizer has none, or several at a time.
    """

    steps: int = 0
    lr_sum: float | None = None


class TrainingPlan(ABC):
    """What a researcher writes: a model, its data, and one step of training.

    A plan is made without arguments and prepared by whoever runs it: the researcher to get the first model, a node to train.
    Its methods may take the arguments that belong to them, or none: `init_model(self, model_args)` or `init_model(self)`.
    """

    aggregator: ClassVar[str | None] = None
    """The aggregator that alone can make this plan's model, by name; none leaves the choice to the researcher."""

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
    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the loss of one batch."""

    @abstractmethod
    def predict(self, data: Any) -> Tensor:
        """Return the model's output for one batch, from which metrics are computed."""

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
    def validate(self, loader: Loader) -> Validated:
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
    def import_model(self, path: Path | str | bytes) -> None:
        """Read the model's tensors from a safetensors file, or from its bytes; nothing changes if they do not fit.

        Raises:
            InvalidTensorsError: If the file is not valid safetensors.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """

    def tag_parameters(self, name: str) -> set[Tag]:
        """Return the tags of a tensor of the model, by its name; none of them has any unless the plan says otherwise.

        A `local` tensor is no part of the global model. It begins each round with its first value, or with what the node kept of it if it is
        `persistent` too. A tensor that is `persistent` alone is sent, but each node goes on with its own.
        """
        del name
        return set()

    def all_params(self) -> Mapping[str, Tensor]:
        """Return all tensors of the model, also those that are no part of the global model; they share the model's memory.

        Raises:
            PlanContractError: If the plan cannot be personalised.
        """
        self.breaks_contract("all_params", "cannot be had: such a plan cannot be personalised or corrected")

    def set_params(self, params: Mapping[str, Tensor]) -> None:
        """Copy tensors into the model, any number of them; nothing changes if they do not fit.

        Raises:
            ModelMismatchError: If there is no such tensor, or shapes or dtypes differ.
            PlanContractError: If the plan cannot be personalised.
        """
        if params:
            self.breaks_contract("set_params", "cannot be had: such a plan cannot be personalised")

    def trainable_params(self) -> Mapping[str, Tensor]:
        """Return the parameters that training changes, each once; they share the model's memory.

        Raises:
            PlanContractError: If the gradients of the plan cannot be corrected.
        """
        self.breaks_contract(
            "trainable_params", "cannot be had: the gradients of such a plan cannot be corrected"
        )

    def first_params(self) -> Mapping[str, Tensor]:
        """Return the first values of the tensors that are no part of the global model."""
        return {}

    def kept_params(self) -> Mapping[str, Tensor]:
        """Return the tensors that the node keeps for the next round; they share the model's memory."""
        return {}

    def steer(self, steering: Steering | None) -> None:
        """Let the next trainings add to their gradients, or no more.

        Raises:
            PlanContractError: If the gradients of the plan cannot be corrected.
        """
        if steering is not None:
            self.breaks_contract("train", "cannot be corrected in such a plan")

    def optimizer_memory(self) -> Mapping[str, Tensor]:
        """Return what the optimizer of the last training remembers; nothing if the plan has none that could."""
        return {}

    def recall_optimizer(self, memory: Mapping[str, Tensor]) -> None:  # noqa: B027 - a plan may have no optimizer
        """Let the optimizers of the next trainings begin with what was remembered; with nothing, they begin afresh."""

    def effort(self) -> Effort:
        """Return what the last training took."""
        return Effort()

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
            parameters = _parameters(
                getattr(method, "__func__", method), bound=isinstance(method, MethodType)
            )
            named = {name: value for name, value in offered.items() if name in parameters}
            own = any(
                parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
                for name, parameter in parameters.items()
                if name not in named
            )
            return method(*list(offered.values())[: int(own)], **named)


@functools.lru_cache(64)
def _parameters(function: Callable[..., object], *, bound: bool) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function, without the first one if it is bound."""
    return inspect.signature(MethodType(function, function) if bound else function).parameters
