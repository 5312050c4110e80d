"""Say in a file how its tensors are encoded, and check what others say."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from common.errors import InvalidSettingsError, InvalidTensorsError
from common.payload.encodings.choice import Encoding
from common.payload.encodings.forms import Form, form_of
from common.payload.encodings.writer import Kind
from common.payload.header import TensorIndex

KEY: Final = "warren.encoding"
"""Key of the note in the metadata of a file."""


class EncodingNote(BaseModel):
    """What the metadata of an encoded file say.

    Shapes are not among it: they follow from the parts or from the global model, so nobody can lie about them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    encoding: str
    """Text of the encoding, without compression."""
    of: Literal["value", "change"]
    """Whether the numbers stand for themselves or are to be added to the global model."""
    dtypes: dict[str, Literal["F64", "F32", "F16", "BF16"]]
    """Original dtype of each tensor that is encoded; the others are as they were."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            encoding = Encoding.parse(self.encoding)
        except InvalidSettingsError as error:
            raise ValueError(str(error)) from error
        if encoding.zstd or encoding.name == "raw" or (encoding.feeds_back and self.of == "value"):
            raise ValueError("no file is encoded like this")
        return self

    @property
    def form(self) -> Form:
        """Return how the tensors are written."""
        return form_of(Encoding.parse(self.encoding))

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a file."""
        return {KEY: self.model_dump_json()}


def read_note(index: TensorIndex) -> EncodingNote | None:
    """Return the note of a file, none if nothing in it is encoded.

    Raises:
        InvalidTensorsError: If it is not valid.
    """
    text = index.metadata.get(KEY)
    if text is None:
        return None
    try:
        return EncodingNote.model_validate_json(text)
    except ValidationError as error:
        raise InvalidTensorsError(reason="its note about the encoding is not valid") from error


def decoded_kinds(index: TensorIndex, note: EncodingNote | None, base: TensorIndex | None) -> dict[str, Kind]:
    """Return dtype and shape of each tensor that an encoded file stands for.

    Nothing is allocated: a change has the shape that the global model has, a value has that of its part.

    Args:
        index: What the file holds.
        note: Its note.
        base: The global model, if the file holds changes.

    Raises:
        InvalidTensorsError: If parts are missing, superfluous, or of another dtype or shape than they must be, or if what
            is changed is not in the global model.
    """
    rest = {name: (entry.dtype, entry.shape) for name, entry in index.items()}
    if note is None:
        return rest
    kinds: dict[str, Kind] = {}
    numbers = next(iter(note.form.kinds((), 1)))  # of a value, the first part has the shape of the tensor
    for name, dtype in note.dtypes.items():
        entry = base.get(name) if base is not None else index.get(name + numbers)
        if entry is None:
            raise InvalidTensorsError(reason=f"there is no tensor {name!r} that it could be about")
        if base is not None and entry.dtype != dtype:
            raise InvalidTensorsError(reason=f"tensor {name!r} is {entry.dtype} and was encoded as {dtype}")
        for suffix, kind in note.form.kinds(entry.shape, entry.elements).items():
            if rest.pop(name + suffix, None) != kind:
                raise InvalidTensorsError(reason=f"tensor {name!r} has no part {name + suffix!r} of {kind}")
        kinds[name] = (dtype, entry.shape)
    if twice := kinds.keys() & rest.keys():
        raise InvalidTensorsError(reason=f"tensor {min(twice)!r} is there encoded and not encoded")
    return kinds | rest
