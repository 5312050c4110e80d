"""Let a plan's model be tensors by name, whatever makes them."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor
from typing_extensions import TypeVar

from common.data import Loader
from common.errors import InvalidSettingsError
from common.payload.header import BUFFERS
from common.payload.tensors import SavedTensors, load_tensors, save_tensors
from common.settings import describe
from common.training_args import Metric, TrainingArgs
from common.training_plans.base import TrainingPlan
from common.training_plans.kinds import check_fit, kinds
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.validation import Validated, validate


class ModelArguments(BaseModel):
    """What a plan takes from `model_args`; whatever else is there is for the researcher's own methods."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


A = TypeVar("A", bound=ModelArguments, default=ModelArguments)


class TensorPlan(TrainingPlan, Generic[A]):
    """A plan whose model is not a torch module, and travels as float64 tensors all the same."""

    arguments_class: ClassVar[type[ModelArguments]] = ModelArguments
    """Checks `model_args`."""
    default_metric: ClassVar[Metric] = "ACCURACY"
    """Metric of validation if the training arguments name none."""
    buffers: ClassVar[tuple[str, ...]] = ()
    """Tensors that are no parameters: a server optimizer leaves them as the aggregator made them."""

    arguments: A
    """The checked `model_args`."""

    @abstractmethod
    def build(self) -> None:
        """Make the first model; random generators are seeded."""

    @abstractmethod
    def get_model_params(self) -> dict[str, Tensor]:
        """Return the tensors of the model by name."""

    @abstractmethod
    def load(self, params: Mapping[str, Tensor]) -> None:
        """Take tensors as the model; they fit."""

    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; what it is at first depends on the arguments alone, wherever it is built.

        Seeds `random`, `numpy` and `torch`; no seed counts as 0.

        Raises:
            InvalidSettingsError: If the model's arguments are wrong; names every mistake.
            MissingExtraError: If a package that the model needs is not installed.
        """
        self._model_args = dict(model_args)
        self._training_args = training_args
        try:
            self.arguments = self.arguments_class.model_validate(self.model_args())  # type: ignore[assignment]
        except ValidationError as error:
            raise InvalidSettingsError(source="model_args", problems=describe(error)) from error
        seed_everything(derived_seed("model", training_args.random_seed or 0))
        self.build()

    def validate(self, loader: Loader) -> Validated:
        """Return the model's metrics; see `common.training_plans.validation.validate`."""
        args = self._training_args
        if args.test_metric is None:
            args = args.model_copy(update={"test_metric": self.default_metric})
        return validate(self, loader, args)

    def after_training_params(self) -> dict[str, Tensor]:
        """Return the tensors to send."""
        return self.get_model_params()

    def set_model_params(self, params: Mapping[str, Tensor]) -> None:
        """Copy tensors into the model; nothing changes if they do not fit.

        Raises:
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        check_fit(self.get_model_params(), kinds(params), where="the parameters")
        self.load(params)

    def export_model(self, path: Path | str) -> SavedTensors:
        """Write the model's tensors to a safetensors file, whole or not at all; its metadata lists those that are buffers."""
        metadata = {BUFFERS: json.dumps(list(self.buffers))} if self.buffers else None
        return save_tensors(Path(path), self.get_model_params(), metadata)

    def import_model(self, path: Path | str | bytes) -> None:
        """Read the model's tensors from a safetensors file, or from its bytes; nothing changes if they do not fit.

        Raises:
            InvalidTensorsError: If the file is not valid safetensors.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        params = load_tensors(path if isinstance(path, bytes) else Path(path))
        check_fit(self.get_model_params(), kinds(params), where="the model file")
        self.load(params)

    def inputs(self, data: Any, features: int) -> Tensor:
        """Return the inputs of a batch as float64 of shape (samples, features).

        Images and the like are laid out as one row for each sample; of inputs in several parts, as a joined set gives them, rows are put side by side.

        Raises:
            PlanContractError: If they have another number of values for each sample.
        """
        parts = data if isinstance(data, list | tuple) else [data]
        given = [list(one.shape[1:]) if isinstance(one, Tensor) else type(one).__name__ for one in parts]
        if not all(isinstance(one, Tensor) and one.ndim > 1 for one in parts) or features != sum(
            math.prod(one.shape[1:]) for one in parts
        ):
            shown = given[0] if len(given) == 1 else given
            self.breaks_contract("training_data", f"gives inputs of {shown}, and n_features is {features}")
        return torch.cat([one.flatten(1).to(torch.float64) for one in parts], dim=1)

    def targets(self, target: Any) -> Tensor:
        """Return the targets of a batch as float64 of shape (samples,).

        Raises:
            PlanContractError: If there is more than one for each sample.
        """
        if not isinstance(target, Tensor) or target.numel() != len(target):
            self.breaks_contract("training_data", "must give one target for each sample")
        return target.reshape(-1).to(torch.float64)

    def classes(self, target: Any, count: int) -> Tensor:
        """Return the targets of a batch as class numbers, int64 of shape (samples,).

        Raises:
            PlanContractError: If one is not a class number.
        """
        values = self.targets(target)
        if not bool(((values >= 0) & (values < count) & (values == values.floor())).all()):
            self.breaks_contract("training_data", f"gives targets other than the classes 0 to {count - 1}")
        return values.to(torch.int64)


class HeldPlan(TensorPlan[A]):
    """A plan that holds its model as tensors, just as they travel."""

    _params: Mapping[str, Tensor] = {}

    def get_model_params(self) -> dict[str, Tensor]:
        """Return the tensors of the model by name."""
        return dict(self._params)

    def load(self, params: Mapping[str, Tensor]) -> None:
        """Take tensors as the model; they fit."""
        self._params = {name: value.clone() for name, value in params.items()}
