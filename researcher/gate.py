"""Let only sound updates near the global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.errors import InvalidTensorsError, UpdateRefusedError
from common.ids import Digest
from common.limits import METRICS, UPDATE_NORM
from common.messages import DatasetDescription, PayloadManifest, TrainReply
from common.payload.blocks import Layout
from common.payload.encodings.choice import Encoding
from common.payload.header import Content
from common.payload.soundness import unsound
from common.training_args import TrainingArgs
from common.training_plans.metric_names import is_declared
from researcher.aggregators.stateful import Told

_SLACK_BYTES: Final = 64 * 1024
"""What the header of an update may be longer than that of the model."""
_LEAST_TOLD: Final = 1e-20
"""No learning rate is smaller, and what a sound update is divided by it is still a number."""
_MORE_HEADERS: Final = 3
"""An encoding names a tensor so many times more often."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the updates of a round must fit.

    Attributes:
        base: Digest of the global model of the round, as it was sent.
        model: Where its tensors lie.
        content: That model itself, not encoded.
        encoding: How updates were to be encoded.
        plan_hash: The plan that was sent.
        plan_source: The text of the plan, which names its metrics.
        arguments: The training arguments that were sent.
        train: Whether nodes were asked to train, not only to validate.
        measure: Whether they were asked for moments of columns alone.
        requires: What they must tell beside the update for the aggregator.
    """

    base: Digest
    model: Layout
    content: Content
    encoding: Encoding
    plan_hash: Digest
    plan_source: str
    arguments: TrainingArgs
    train: bool = True
    measure: bool = False
    requires: tuple[Told, ...] = ()

    def check_reply(self, reply: TrainReply, dataset: DatasetDescription) -> None:
        """Check what a node tells about its update, before any of the update is looked at.

        Raises:
            UpdateRefusedError: If it is not about what was asked for, counts more samples than there can be, or tells what was not to be
                validated.
        """
        problem = self._mismatch(reply, dataset) or self._miscount(reply, dataset) or self._undeclared(reply)
        if problem is not None:
            raise _refusal(reply, problem)

    def check_tensors(self, reply: TrainReply, update: Content) -> None:
        """Check the tensors of an update.

        Raises:
            UpdateRefusedError: If names, shapes or dtypes are not those of the model, a number is not finite, or the change is
                absurdly large.
        """
        try:
            problem = unsound(update, self.content, self.encoding, layout=self.model, norm_limit=UPDATE_NORM)
        except InvalidTensorsError as error:
            raise _refusal(reply, error.public_text) from error
        if problem is not None:
            raise _refusal(reply, problem)

    def _mismatch(self, reply: TrainReply, dataset: DatasetDescription) -> str | None:
        if (reply.update is not None) != self.train:
            return "it holds no tensors" if self.train else "it holds tensors that nobody asked for"
        if reply.update is not None and (problem := self._oversize(reply.update)) is not None:
            return problem
        if reply.base != self.base:
            return f"it started from model {reply.base[:12]} instead of {self.base[:12]}"
        if reply.plan_hash != self.plan_hash:
            return f"it was made by plan {reply.plan_hash[:12]} instead of {self.plan_hash[:12]}"
        if reply.dataset_id != dataset.dataset_id:
            return f"it was made from data set {reply.dataset_id} instead of {dataset.dataset_id}"
        return None

    def _oversize(self, update: PayloadManifest) -> str | None:
        if update.encoding != str(self.encoding):
            return f"it is encoded as {update.encoding} instead of {self.encoding}"
        size = self.model.index.size_bytes
        most = size + _MORE_HEADERS * len(self.model.header) + _SLACK_BYTES
        for claimed in (update.size_bytes, update.decoded_bytes or 0):
            if claimed > most:
                return f"it has {claimed} bytes, and the model {size}"
        return None

    def _miscount(self, reply: TrainReply, dataset: DatasetDescription) -> str | None:
        # samples of a test set of its own are not among those of the data set
        apart = bool(self.arguments.test_tags)
        claimed = reply.samples_train + (0 if apart else reply.samples_test)
        if claimed > dataset.samples:
            return f"it claims {claimed} samples of a data set that has {dataset.samples}"
        if (reply.moments is not None) != self.measure:
            return "it tells no moments" if self.measure else "it tells moments that nobody asked for"
        if any(one.count > reply.samples_train for one in reply.moments or ()):
            return f"it tells moments of more values than its {reply.samples_train} training samples have"
        if not self.train:
            return None
        if reply.samples_seen == 0:
            return "no sample took part in training"
        most = self._most_samples(reply.samples_train)
        if reply.samples_seen > most:
            return f"it claims to have seen {reply.samples_seen} samples where {most} are possible"
        if reply.steps > reply.samples_seen:
            return f"it claims {reply.steps} steps with {reply.samples_seen} samples"
        for name in self.requires:
            if (getattr(reply, name) or 0) < _LEAST_TOLD:
                return f"it tells no {name}, which the aggregator needs"
        return None

    def _most_samples(self, samples_train: int) -> int:
        if self.arguments.dry_run:
            return samples_train
        if self.arguments.num_updates is not None:
            stated = self.arguments.loader_args.get("batch_size")
            batch = stated if isinstance(stated, int) and stated > 0 else samples_train
            return self.arguments.num_updates * min(batch, samples_train)
        return (self.arguments.epochs or 0) * samples_train

    def _undeclared(self, reply: TrainReply) -> str | None:
        """Return which validation was not asked for, or is not of the test part, or says too much."""
        asked = {
            "global": (self.arguments.test_on_global_updates or not self.train) and not self.measure,
            "local": self.arguments.test_on_local_updates and self.train,
        }
        asked["personal"] = (self.arguments.finetune_updates is not None and asked["global"]) or (
            self.arguments.ditto_lambda is not None and (asked["global"] or asked["local"])
        )
        if len({one.on for one in reply.validations}) < len(reply.validations):
            return "it tells of one validation twice"
        for one in reply.validations:
            if not asked[one.on]:
                return f"it tells of a validation of the {one.on} model, which nobody asked for"
            if one.samples != reply.samples_test:
                return f"it validated on {one.samples} samples of a test part of {reply.samples_test}"
            if not one.samples_fit:
                return f"its counts are not of the {one.samples} samples of its test part"
            if len(one.metrics) > METRICS:
                return f"it tells {len(one.metrics)} metrics, and {METRICS} are allowed"
            if not all(is_declared(name, self.plan_source) for name in one.metrics):
                return "it tells a metric whose name is not in the plan"
        return None


def _refusal(reply: TrainReply, reason: str) -> UpdateRefusedError:
    return UpdateRefusedError(node=reply.sender, round=reply.round, reason=reason)
