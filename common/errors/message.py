"""Errors WRN-1xx: what arrived could not be read or believed."""

from common.errors.base import WarrenError


class MessageError(WarrenError):
    """Base of the errors about what arrived could not be read or believed."""


class MalformedMessageError(MessageError):
    """A message could not be decoded."""

    code = "WRN-101"
    text = "message from {sender} could not be decoded: {reason}"
    cause = "the sender runs other software, or the bytes were damaged"
    remedy = "compare the versions of both sides with `warren-researcher nodes`; the message was set aside in the dead-letter queue"
    public = True


class ProtocolVersionError(MessageError):
    """The other side speaks another version of the protocol."""

    code = "WRN-102"
    text = "{sender} speaks protocol {theirs}, this side speaks {ours}"
    cause = "one side was upgraded and the other was not"
    remedy = "upgrade Warren at {older}"
    public = True


class MessageTooLargeError(MessageError):
    """A message is larger than the wire allows."""

    code = "WRN-103"
    text = "message of {size_bytes} bytes exceeds the limit of {limit_bytes} bytes"
    cause = "model_args or another argument carries bulk data"
    remedy = "send tensors as the model, not as arguments"
    public = True


class SenderMismatchError(MessageError):
    """A message claims another sender than its queue."""

    code = "WRN-104"
    text = "message claims to come from {claimed} but was written by {actual}"
    cause = "somebody forged a message, or two parties share one kit"
    remedy = "find out who holds the kit of the actual sender; revoke it if in doubt"
    public = True


class InvalidTensorsError(MessageError):
    """A payload is not a valid safetensors file."""

    code = "WRN-105"
    text = "payload is not valid safetensors: {reason}"
    cause = "the bytes were damaged, or the sender is faulty or hostile"
    remedy = "ask the sender to send again; look at its logs"
    public = True


class DigestMismatchError(MessageError):
    """A payload does not have the digest that was announced."""

    code = "WRN-106"
    text = "payload {expected} arrived as {actual}"
    cause = "the bytes were damaged or altered on the way"
    remedy = "nothing: the payload is asked for again, and given up if that does not help"
    public = True


class UnauthenticMessageError(MessageError):
    """A sealed message could not be believed."""

    code = "WRN-107"
    text = "message from {sender} on the {lane} lane was refused: {reason}"
    cause = "it was forged, altered or sent to somebody else, or the two sides hold different rosters"
    remedy = "compare the roster serials with `warren federation show DIR`; the message was set aside in the dead-letter queue"
    public = True
