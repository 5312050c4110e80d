"""Let only sound updates near the global model.

Names, shapes, dtypes and numbers are those that an update stands for, however it is encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.errors import InvalidTensorsError, UpdateRefusedError
from common.ids import Digest
from common.messages import DatasetDescription, PayloadManifest, TrainReply
from common.payload.blocks import BlockFile, Layout, blocks, finite
from common.payload.encodings.choice import Encoding
from common.payload.encodings.decoder import DecodedFile
from common.payload.header import TensorIndex
from common.training_args import TrainingArgs

_SLACK_BYTES: Final = 64 * 1024
"""What the header of an update may be longer than that of the model."""
_MORE_HEADERS: Final = 3
"""An encoding names a tensor so many times more often."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the updates of a round must fit.

    Attributes:
        base: Digest of the global model of the round, as it was sent.
        model: Where its tensors lie.
        model_path: Its file, not encoded.
        encoding: How updates were to be encoded.
        plan_hash: The plan that was sent.
        arguments: The training arguments that were sent.
        train: Whether nodes were asked to train, not only to validate.
    """

    base: Digest
    model: Layout
    model_path: Path
    encoding: Encoding
    plan_hash: Digest
    arguments: TrainingArgs
    train: bool = True

    def check_reply(self, reply: TrainReply, dataset: DatasetDescription) -> None:
        """Check what a node tells about its update, before any of the update is looked at.

        Raises:
            UpdateRefusedError: If it is not about what was asked for, or counts more samples than there can be.
        """
        problem = self._mismatch(reply, dataset) or self._miscount(reply, dataset)
        if problem is not None:
            raise _refusal(reply, problem)

    def check_tensors(self, reply: TrainReply, path: Path) -> None:
        """Check the tensors of an update.

        Raises:
            UpdateRefusedError: If names, shapes or dtypes are not those of the model, or a number is not finite.
        """
        try:
            with self._open(path) as update:
                problem = self._misencoding(update) or self._misfit(update.index) or _not_finite(update)
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
        if reply.samples_train + reply.samples_test > dataset.samples:
            claimed = reply.samples_train + reply.samples_test
            return f"it claims {claimed} samples of a data set that has {dataset.samples}"
        if not self.train:
            return None
        if reply.samples_seen == 0:
            return "no sample took part in training"
        most = self._most_samples(reply.samples_train)
        if reply.samples_seen > most:
            return f"it claims to have seen {reply.samples_seen} samples where {most} are possible"
        return None

    def _most_samples(self, samples_train: int) -> int:
        if self.arguments.dry_run:
            return samples_train
        if self.arguments.num_updates is not None:
            stated = self.arguments.loader_args.get("batch_size")
            batch = stated if isinstance(stated, int) and stated > 0 else samples_train
            return self.arguments.num_updates * min(batch, samples_train)
        return (self.arguments.epochs or 0) * samples_train

    def _open(self, path: Path) -> BlockFile | DecodedFile:
        if self.encoding.name == "raw":
            return BlockFile(path, self.model)
        return DecodedFile(path, self.model_path)

    def _misencoding(self, update: BlockFile | DecodedFile) -> str | None:
        if isinstance(update, DecodedFile) and update.encoding not in (None, self.encoding.form):
            return f"its tensors are encoded as {update.encoding} instead of {self.encoding.form}"
        return None

    def _misfit(self, update: TensorIndex) -> str | None:
        model = self.model.index
        if update is model:
            return None
        missing, extra = model.keys() - update.keys(), update.keys() - model.keys()
        if missing:
            return f"it lacks {_some(missing)}"
        if extra:
            return f"the model has no {_some(extra)}"
        for name, entry in model.items():
            if update[name].shape != entry.shape:
                return f"{name} has the shape {update[name].shape} instead of {entry.shape}"
            if update[name].dtype != entry.dtype:
                return f"{name} has the dtype {update[name].dtype} instead of {entry.dtype}"
        return None


def _not_finite(update: BlockFile | DecodedFile) -> str | None:
    for name, entry in update.index.items():
        if any(not finite(update.read(name, *block), entry.dtype) for block in blocks(entry)):
            return f"{name} holds a number that is not finite"
    return None


def _refusal(reply: TrainReply, reason: str) -> UpdateRefusedError:
    return UpdateRefusedError(node=reply.sender, round=reply.round, reason=reason)


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > len(shown) else "")
