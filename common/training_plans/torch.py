"""Let a researcher write a plan around any torch model."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from common.data import Loader
from common.errors import ModelMismatchError
from common.messages import LossPoint
from common.optimizers import Optimizer as ModularOptimizer
from common.payload.header import BUFFERS
from common.payload.tensors import DTYPES, SavedTensors, open_tensors, save_tensors
from common.training_args import TrainingArgs
from common.training_plans.base import TrainingPlan
from common.training_plans.descent import autocast
from common.training_plans.device import moved, on_device
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.state_dict import read_state_dict
from common.training_plans.stepping import TorchStepper
from common.training_plans.training import train
from common.training_plans.validation import validate

_MOST_NAMED = 5


class TorchTrainingPlan(TrainingPlan):
    """A plan around a `torch.nn.Module`.

    Write `init_model`, `training_data` and `training_step`; the rest is optional. A plan may also define
    `testing_step(self, data, target)`, which returns a number, a list or a dict of numbers for one test batch, and
    `postprocess(self, params)`, which returns the parameters to send in place of those that were trained.
    """

    _model: nn.Module | None = None
    _optimizer: Optimizer | None = None
    _received: Mapping[str, Tensor] = {}

    @abstractmethod
    def init_model(self, model_args: dict[str, Any]) -> nn.Module:
        """Return the model; called once, with seeded random generators."""

    @abstractmethod
    def training_step(self, data: Any, target: Any) -> Tensor:
        """Return the loss of one batch, a scalar with a gradient."""

    def init_optimizer(self, optimizer_args: dict[str, Any]) -> Optimizer | ModularOptimizer:
        """Return the optimizer of one round, torch's or one of modules; Adam over all parameters unless the plan says otherwise."""
        return torch.optim.Adam(self.model().parameters(), **optimizer_args)

    def predict(self, data: Any) -> Tensor:
        """Return the model's output for one batch; metrics are computed from it when there is no `testing_step`.

        For classification: one column of scores for each class, or a single logit.
        """
        output: Tensor = self.model()(data)
        return output

    def model(self) -> nn.Module:
        """Return the model.

        Raises:
            PlanContractError: Before `prepare`.
        """
        if self._model is None:
            self.breaks_contract("model", "was not built yet")
        return self._model

    def optimizer(self) -> Optimizer:
        """Return the optimizer of this round.

        Raises:
            PlanContractError: Before training.
        """
        if self._optimizer is None:
            self.breaks_contract("optimizer", "was not built yet")
        return self._optimizer

    def prepare(self, *, model_args: Mapping[str, Any], training_args: TrainingArgs) -> None:
        """Build the model; its first weights depend on the arguments' `random_seed` alone, wherever it is built.

        Seeds `random`, `numpy` and `torch`; no seed counts as 0.

        Raises:
            PlanFailedError: If `init_model` raises.
            PlanContractError: If it returns no module, or one whose state is not made of dense tensors.
        """
        self._model_args = dict(model_args)
        self._training_args = training_args
        seed_everything(derived_seed("model", training_args.random_seed or 0))
        model = self.call(self.init_model, model_args=self.model_args())
        if not isinstance(model, nn.Module):
            self.breaks_contract("init_model", f"returned {type(model).__name__}, not a torch.nn.Module")
        for name, value in model.state_dict().items():
            if (
                not isinstance(value, Tensor)
                or value.dtype not in DTYPES
                or value.layout is not torch.strided
            ):
                self.breaks_contract("init_model", f"returned a model whose {name!r} is not a dense tensor")
        self._model = model

    def start(self) -> Optimizer:
        """Build the optimizer of one round.

        Raises:
            PlanFailedError: If `init_optimizer` raises.
            PlanContractError: If it returns no optimizer.
        """
        optimizer = self.call(self.init_optimizer, optimizer_args=self.optimizer_args())
        if isinstance(optimizer, ModularOptimizer):
            optimizer = TorchStepper(self.model().parameters(), optimizer)
        if not isinstance(optimizer, Optimizer):
            self.breaks_contract("init_optimizer", f"returned {type(optimizer).__name__}, not an optimizer")
        self._optimizer = optimizer
        return optimizer

    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Train the model for one round; see `common.training_plans.training.train`."""
        buffers = None if self._training_args.share_persistent_buffers else self._buffers()
        self._received = {name: value.clone() for name, value in (buffers or {}).items()}
        with on_device(self.model(), self.device_name()):
            return train(self, moved(loader, self.device_name()), self._training_args, report)

    def validate(self, loader: Loader) -> dict[str, float | None]:
        """Return the model's metrics; see `common.training_plans.validation.validate`."""
        args = self._training_args
        with on_device(self.model(), self.device_name()), autocast(args, self.device_name()):
            return validate(self, moved(loader, self.device_name()), args)

    def get_model_params(
        self, *, only_trainable: bool = False, exclude_buffers: bool = False
    ) -> dict[str, Tensor]:
        """Return the model's tensors by name; they share the model's memory.

        Args:
            only_trainable: Leave out frozen parameters.
            exclude_buffers: Leave out buffers such as the running statistics of BatchNorm.
        """
        model = self.model()
        params: dict[str, Tensor] = model.state_dict()
        parameters = dict(model.named_parameters(remove_duplicate=False))
        return {
            name: value
            for name, value in params.items()
            if not (exclude_buffers and name not in parameters)
            and not (only_trainable and name in parameters and not parameters[name].requires_grad)
        }

    def _buffers(self) -> dict[str, Tensor]:
        """Return the buffers by name; they share the model's memory."""
        parameters = self.get_model_params(exclude_buffers=True)
        return {name: value for name, value in self.get_model_params().items() if name not in parameters}

    def after_training_params(self) -> dict[str, Tensor]:
        """Return the tensors to send: the model's, after `postprocess` if the plan has one.

        Without `share_persistent_buffers` the buffers are those from before the last training, and `postprocess` does not get them.

        Raises:
            PlanFailedError: If `postprocess` raises; says where.
            PlanContractError: If it returns no tensors by name.
            ModelMismatchError: If they do not fit the model.
        """
        shared = self.get_model_params(exclude_buffers=not self._training_args.share_persistent_buffers)
        postprocess = getattr(self, "postprocess", None)
        rest = {**self._buffers(), **self._received}
        if postprocess is None:
            return {**rest, **shared}
        changed = self.call(postprocess, params=shared)
        if not isinstance(changed, Mapping) or not all(
            isinstance(value, Tensor) for value in changed.values()
        ):
            self.breaks_contract("postprocess", "must return tensors by name")
        _check_fit(shared, _kinds(changed), where="what postprocess returned")
        return {**rest, **changed}

    def set_model_params(self, params: Mapping[str, Tensor]) -> None:
        """Copy tensors into the model; nothing changes if they do not fit.

        Raises:
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        own = self.get_model_params()
        _check_fit(own, _kinds(params), where="the parameters")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(params[name])

    def export_model(self, path: Path | str) -> SavedTensors:
        """Write the model's tensors to a safetensors file, whole or not at all; its metadata lists those that are buffers."""
        buffers = sorted(self._buffers())
        metadata = {BUFFERS: json.dumps(buffers)} if buffers else None
        return save_tensors(Path(path), self.get_model_params(), metadata)

    def import_state_dict(self, path: Path | str) -> None:
        """Read the model's tensors from a state dict that `torch.save` wrote; nothing changes if they do not fit.

        Nothing in the file is run: torch reads tensors and plain values alone (`weights_only=True`). The way back is
        `model.load_state_dict(safetensors.torch.load_file(path))` with the file of `export_model`.

        Raises:
            InvalidTensorsError: If the file holds anything but tensors by name.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        self.set_model_params(read_state_dict(Path(path)))

    def import_model(self, path: Path | str) -> None:
        """Read the model's tensors from a safetensors file; nothing changes if they do not fit.

        Raises:
            InvalidTensorsError: If the file is not valid safetensors.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        own = self.get_model_params()
        with open_tensors(Path(path)) as file:
            theirs = {name: (entry.dtype, entry.shape) for name, entry in file.index.items()}
            _check_fit(own, theirs, where="the model file")
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(file[name])


Kinds = Mapping[str, tuple[str | None, tuple[int, ...]]]
"""dtype and shape of tensors, by name."""


def _kinds(tensors: Mapping[str, Tensor]) -> Kinds:
    return {name: (DTYPES.get(value.dtype), tuple(value.shape)) for name, value in tensors.items()}


def _check_fit(own: Mapping[str, Tensor], theirs: Kinds, *, where: str) -> None:
    """Raise ModelMismatchError if tensors of these dtypes and shapes cannot be copied into a model."""
    ours = _kinds(own)
    if ours == theirs:
        return
    groups = {"missing": ours.keys() - theirs.keys(), "unexpected": theirs.keys() - ours.keys()}
    problems = [f"{what} {_listed(sorted(names))}" for what, names in groups.items() if names]
    differing = [name for name in sorted(ours.keys() & theirs.keys()) if ours[name] != theirs[name]]
    problems += [
        f"{name} is {_written(theirs[name])} and not {_written(ours[name])}"
        for name in differing[:_MOST_NAMED]
    ]
    raise ModelMismatchError(where=where, problem="; ".join(problems))


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _written(kind: tuple[str | None, tuple[int, ...]]) -> str:
    return f"{kind[0]} {list(kind[1])}"
