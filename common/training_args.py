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
Tag = Annotated[str, Field(min_length=1, max_length=100)]
Metric = Literal[
    "ACCURACY",
    "F1_SCORE",
    "PRECISION",
    "RECALL",
    "MEAN_SQUARE_ERROR",
    "MEAN_ABSOLUTE_ERROR",
    "EXPLAINED_VARIANCE",
    "R2_SCORE",
    "LOG_LOSS",
    "BRIER_SCORE",
    "ROC_AUC",
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
    test_tags: Annotated[tuple[Tag, ...], Field(max_length=50)] = ()
    """Tags of another data set of each node, to validate on; in place of `test_ratio`."""
    test_folds: Annotated[int, Field(ge=2, lt=2**31)] | None = None
    """Cross-validation: so many test parts, of which each sample is in one; in place of `test_ratio`."""
    test_fold: Whole | None = None
    """Which of them is held back, from 0."""
    join_tags: Annotated[tuple[Tag, ...], Field(max_length=50)] = ()
    """Tags of another data set of each node, which the plan's `JoinedDataset` joins to the first."""
    moments: Literal["node", "federation"] = "node"
    """Whose means and deviations fill and standardise columns: those of each node's training part, or of all of them together, which
    nodes are asked for before the first round."""
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
    keep_optimizer: bool = False
    """Keep what the optimizer remembers, momentum for instance, at the node from round to round."""
    finetune_updates: Positive | None = None
    """Steps of training after which the received model is validated once more, as the personal model, and forgotten."""
    ditto_lambda: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Keep a personal model at each node, pulled towards the global one with this weight (Ditto, Li et al., ICML 2021)."""
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
    """Send buffers such as the running statistics of BatchNorm; otherwise each node keeps its own from round to round."""
    random_seed: Whole | None = None
    """Seed of the experiment; drawn and recorded if not given. Each round has random streams of its own that follow from it."""

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainingArgs:
        if self.epochs is None and self.num_updates is None and not self.dry_run:
            raise ValueError("set epochs or num_updates")
        if self.finetune_updates is not None and self.ditto_lambda is not None:
            raise ValueError("set finetune_updates or ditto_lambda, not both: each makes the personal model")
        return self

    @model_validator(mode="after")
    def _has_one_split(self) -> TrainingArgs:
        if (self.test_folds is None) != (self.test_fold is None):
            raise ValueError("set both test_folds and test_fold, or neither")
        if self.test_folds is not None and self.test_fold is not None:
            if self.test_fold >= self.test_folds:
                raise ValueError(f"test_fold must be below {self.test_folds}")
            if self.test_ratio or self.shuffle_testing_dataset:
                raise ValueError("test_folds takes the place of test_ratio and shuffle_testing_dataset")
        if self.test_tags and (self.test_ratio or self.test_folds or self.shuffle_testing_dataset):
            raise ValueError(
                "test_tags takes the place of test_ratio, test_folds and shuffle_testing_dataset"
            )
        if self.test_tags and self.join_tags:
            raise ValueError("set test_tags or join_tags, not both: a test set is joined to nothing")
        if self.moments == "federation" and self.shuffle_testing_dataset:
            raise ValueError(
                "leave shuffle_testing_dataset out: moments of the federation are taken once, from one training part"
            )
        return self

    @property
    def fold(self) -> tuple[int, int] | None:
        """Return number and count of test parts in a cross-validation, or None outside of one."""
        return (
            None if self.test_folds is None or self.test_fold is None else (self.test_fold, self.test_folds)
        )

    def held_back(self, samples: int) -> int:
        """Return the fewest of so many samples that may be in the test part."""
        return round(self.test_ratio * samples) if self.test_folds is None else samples // self.test_folds

    @property
    def average(self) -> str | None:
        """Return how precision, recall and F1 are averaged over classes, if it was said."""
        average = self.test_metric_args.get("average")
        return average if isinstance(average, str) else None

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
