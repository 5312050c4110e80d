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
from common.messages import LossPoint
from common.optimizers import Optimizer as ModularOptimizer
from common.payload.header import BUFFERS
from common.payload.tensors import DTYPES, SavedTensors, open_tensors, save_tensors
from common.training_args import TrainingArgs
from common.training_plans.base import Effort, TrainingPlan
from common.training_plans.descent import autocast
from common.training_plans.device import moved, on_device
from common.training_plans.kinds import check_fit, kinds
from common.training_plans.remembering import recall, remembered
from common.training_plans.seeding import derived_seed, seed_everything
from common.training_plans.state_dict import read_state_dict
from common.training_plans.steering import Guide, Steering
from common.training_plans.stepping import TorchStepper
from common.training_plans.training import train
from common.training_plans.validation import Validated, validate


class TorchTrainingPlan(TrainingPlan):
    """A plan around a `torch.nn.Module`.

    Write `init_model`, `training_data` and `training_step`; the rest is optional. A plan may also define
    `testing_step(self, data, target)`, which returns a number, a list or a dict of numbers for one test batch, and
    `postprocess(self, params)`, which returns the parameters to send in place of those that were trained.
    """

    _model: nn.Module | None = None
    _optimizer: Optimizer | None = None
    _guide: Guide | None = None
    _steering: Steering | None = None
    _recalled: Mapping[str, Tensor] = {}
    _local: Mapping[str, Tensor] = {}
    _persistent: frozenset[str] = frozenset()
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
        tags = {name: self._tags(name) for name in model.state_dict()}
        self._local = {
            name: value.detach().clone()
            for name, value in model.state_dict().items()
            if "local" in tags[name]
        }
        self._persistent = frozenset(name for name, tagged in tags.items() if "persistent" in tagged)
        if len(self._local) == len(tags) and tags:
            self.breaks_contract("tag_parameters", "leaves nothing that could be sent")

    def _tags(self, name: str) -> set[str]:
        tags = self.call(self.tag_parameters, name=name)
        if not isinstance(tags, set | frozenset) or not tags <= {"local", "persistent"}:
            self.breaks_contract(
                "tag_parameters", "must return a set of 'local' and 'persistent', or an empty one"
            )
        return set(tags)

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
        try:
            recall(optimizer, self._recalled)
        except ValueError as error:
            self.breaks_contract(
                "init_optimizer", f"returned one that cannot go on where the last one was: {error}"
            )
        if self._guide is not None:
            self._guide.release()
        self._guide = Guide(optimizer, dict(self.model().named_parameters()), self._steering)
        return optimizer

    def steer(self, steering: Steering | None) -> None:
        """See `TrainingPlan.steer`."""
        self._steering = steering

    def optimizer_memory(self) -> Mapping[str, Tensor]:
        """See `TrainingPlan.optimizer_memory`."""
        return {} if self._optimizer is None else remembered(self._optimizer)

    def recall_optimizer(self, memory: Mapping[str, Tensor]) -> None:
        """See `TrainingPlan.recall_optimizer`."""
        self._recalled = memory

    def effort(self) -> Effort:
        """See `TrainingPlan.effort`."""
        return Effort() if self._guide is None else self._guide.effort

    def train(self, loader: Loader, report: Callable[[LossPoint], None]) -> int:
        """Train the model for one round; see `common.training_plans.training.train`."""
        with on_device(self.model(), self.device_name()):
            return train(self, moved(loader, self.device_name()), self._training_args, report)

    def validate(self, loader: Loader) -> Validated:
        """Return the model's metrics; see `common.training_plans.validation.validate`."""
        self.model().eval()
        args = self._training_args
        with on_device(self.model(), self.device_name()), autocast(args, self.device_name()):
            return validate(self, moved(loader, self.device_name()), args)

    def get_model_params(
        self, *, only_trainable: bool = False, exclude_buffers: bool = False, local_params: bool = False
    ) -> dict[str, Tensor]:
        """Return the tensors of the global model by name; they share the model's memory.

        Args:
            only_trainable: Leave out frozen parameters.
            exclude_buffers: Leave out buffers such as the running statistics of BatchNorm.
            local_params: Add those that are tagged `local`.
        """
        model = self.model()
        params: dict[str, Tensor] = model.state_dict()
        chosen = only_trainable or exclude_buffers
        parameters = dict(model.named_parameters(remove_duplicate=False)) if chosen else {}
        return {
            name: value
            for name, value in params.items()
            if not (exclude_buffers and name not in parameters)
            and not (only_trainable and name in parameters and not parameters[name].requires_grad)
            and (local_params or name not in self._local)
        }

    def all_params(self) -> dict[str, Tensor]:
        """See `TrainingPlan.all_params`."""
        return self.get_model_params(local_params=True)

    def trainable_params(self) -> dict[str, Tensor]:
        """See `TrainingPlan.trainable_params`."""
        return {
            name: value.detach()
            for name, value in self.model().named_parameters()
            if value.requires_grad and name not in self._local
        }

    def first_params(self) -> Mapping[str, Tensor]:
        """See `TrainingPlan.first_params`."""
        return self._local

    def kept_params(self) -> dict[str, Tensor]:
        """See `TrainingPlan.kept_params`."""
        buffers = {} if self._training_args.share_persistent_buffers else self._buffers()
        if not (self._persistent or buffers):
            return {}
        return {
            name: value
            for name, value in self.all_params().items()
            if name in self._persistent or name in buffers
        }

    def batch_norm_params(self) -> frozenset[str]:
        """Return the names of all tensors of BatchNorm layers, their running statistics too.

        FedBN (Li et al., ICLR 2021) keeps them at the node: let `tag_parameters` return `{"local", "persistent"}` for them.
        """
        return frozenset(
            f"{path}.{name}" if path else name
            for path, module in self.model().named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - torch has no public name for all of them
            for name in module.state_dict()
        )

    def set_params(self, params: Mapping[str, Tensor]) -> None:
        """See `TrainingPlan.set_params`."""
        if not params:
            return
        every = self.all_params()
        own = {name: value for name, value in every.items() if name in params}
        check_fit(own, kinds(params), where="what the node kept")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(params[name])

    def _buffers(self, params: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the buffers among the tensors of the global model; they share the model's memory."""
        parameters = {name for name, _ in self.model().named_parameters(remove_duplicate=False)}
        shared = self.get_model_params() if params is None else params
        return {name: value for name, value in shared.items() if name not in parameters}

    def after_training_params(self) -> dict[str, Tensor]:
        """Return the tensors to send: the model's, after `postprocess` if the plan has one.

        Without `share_persistent_buffers` the buffers are those of the model file that came, and `postprocess` does not get them.

        Raises:
            PlanFailedError: If `postprocess` raises; says where.
            PlanContractError: If it returns no tensors by name.
            ModelMismatchError: If they do not fit the model.
        """
        shared = self.get_model_params(exclude_buffers=not self._training_args.share_persistent_buffers)
        postprocess = getattr(self, "postprocess", None)
        rest = self._received or self._buffers()
        if postprocess is None:
            return {**rest, **shared}
        changed = self.call(postprocess, params=shared)
        if not isinstance(changed, Mapping) or not all(
            isinstance(value, Tensor) for value in changed.values()
        ):
            self.breaks_contract("postprocess", "must return tensors by name")
        check_fit(shared, kinds(changed), where="what postprocess returned")
        return {**rest, **changed}

    def set_model_params(self, params: Mapping[str, Tensor]) -> None:
        """Copy tensors into the model; nothing changes if they do not fit.

        Raises:
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        own = self.get_model_params()
        check_fit(own, kinds(params), where="the parameters")
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

    def import_model(self, path: Path | str | bytes) -> None:
        """Read the model's tensors from a safetensors file, or from its bytes; nothing changes if they do not fit.

        Raises:
            InvalidTensorsError: If the file is not valid safetensors.
            ModelMismatchError: If names, shapes or dtypes differ; says which.
        """
        own = self.get_model_params()
        with open_tensors(path if isinstance(path, bytes) else Path(path)) as file:
            theirs = {name: (entry.dtype, entry.shape) for name, entry in file.index.items()}
            check_fit(own, theirs, where="the model file")
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(file[name])
        self._received = {name: value.clone() for name, value in self._buffers(own).items()}
