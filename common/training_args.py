"""Validate how a node should train: the keys of Fed-BioMed's training arguments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from common.errors import InvalidArgumentsError
from common.schedule import LearningRateSchedule
from common.settings import describe

__all__ = ["Metric", "TrainingArgs"]

Positive = Annotated[int, Field(ge=1, lt=2**53)]
Whole = Annotated[int, Field(ge=0, lt=2**53)]
Metric = Literal[
    "ACCURACY",
    "F1_SCORE",
    "PRECISION",
    "RECALL",
    "MEAN_SQUARE_ERROR",
    "MEAN_ABSOLUTE_ERROR",
    "EXPLAINED_VARIANCE",
]


class TrainingArgs(BaseModel):
    """Say how long and with what a node trains in one round.

    With `num_updates` set, it decides how long; otherwise `epochs` does, each capped by `batch_maxnum` batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    epochs: Whole | None = None
    """Passes over the training part."""
    num_updates: Whole | None = None
    """Optimisation steps; wins over `epochs`."""
    batch_maxnum: Positive | None = None
    """Most batches in one epoch."""
    dry_run: bool = False
    """Train one batch only."""
    loader_args: dict[str, JsonValue] = {}
    """Arguments of the plan's DataManager that win over those in the plan: `batch_size`, `shuffle`, `drop_last`."""
    optimizer_args: dict[str, JsonValue] = {}
    """Handed to the plan's `init_optimizer`, `lr` for instance."""
    test_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the data set held back for validation."""
    test_batch_size: Whole | None = None
    """Batch size of validation; none or 0 takes the whole test part at once."""
    test_on_local_updates: bool = False
    """Validate the model that was trained here."""
    test_on_global_updates: bool = False
    """Validate the model that was received, before training, and once more after the last round."""
    shuffle_testing_dataset: bool = False
    """Draw another test part each round."""
    test_metric: Metric | None = None
    """Metric of validation when the plan has no `testing_step`; accuracy if not given."""
    test_metric_args: dict[str, JsonValue] = {}
    """Arguments of that metric, such as `average`; unknown ones are refused."""
    log_interval: Whole = 10
    """Batches between two loss reports; 0 reports only the last."""
    fedprox_mu: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Weight of the proximal term (Li et al., MLSys 2020, eq. 2)."""
    clip_grad_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Bound on the size of each number of the gradient; larger ones are cut before each step."""
    clip_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Bound on the Euclidean norm of the whole gradient; a longer one is shortened before each step (Pascanu et al., ICML 2013), after
    `clip_grad_value`."""
    autocast: Literal["bfloat16", "float16"] | None = None
    """Compute losses and metrics in mixed precision; with `float16` the loss is scaled (Micikevicius et al., ICLR 2018). Parameters stay as they are."""
    lr_schedule: LearningRateSchedule | None = None
    """Change the optimizer's learning rates from round to round: `kind` is `constant`, `step`, `exponential` or `cosine`, each with
    `warmup_rounds`."""
    use_gpu: bool = False
    """Ask for a GPU; a node that offers none trains on its CPU and says so."""
    share_persistent_buffers: bool = True
    """Send buffers such as the running statistics of BatchNorm; otherwise the update holds those that were received."""
    random_seed: Whole | None = None
    """Seed of the experiment; drawn and recorded if not given. Each round has random streams of its own that follow from it."""

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainingArgs:
        if self.epochs is None and self.num_updates is None and not self.dry_run:
            raise ValueError("set epochs or num_updates")
        return self

    @property
    def stream_batches(self) -> int:
        """Return by how many batches a round goes on in the stream of a node: none with `epochs`."""
        updates = self.num_updates or 0
        return min(updates, 1) if self.dry_run else updates

    @classmethod
    def of(cls, arguments: dict[str, Any] | TrainingArgs) -> TrainingArgs:
        """Check arguments as a person wrote them.

        Raises:
            InvalidArgumentsError: Naming every mistake at once.
        """
        if isinstance(arguments, TrainingArgs):
            return arguments
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            raise InvalidArgumentsError(problems=describe(error)) from error
