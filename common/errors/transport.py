"""Errors WRN-2xx: the broker, or the way to it."""

from common.errors.base import WarrenError


class TransportError(WarrenError):
    """Base of the errors about the broker, or the way to it."""


class BrokerUnreachableError(TransportError):
    """The broker cannot be reached."""

    code = "WRN-201"
    text = "no connection to the broker at {host}:{port}: {reason}"
    cause = "the broker is down, the address is wrong, or a firewall is in the way"
    remedy = "check host and port in connection.toml and that the broker runs; a node keeps trying by itself"


class BrokerRefusedError(TransportError):
    """The broker refused this party."""

    code = "WRN-202"
    text = "the broker at {host}:{port} refused {party}: {reason}"
    cause = "the party was revoked, or the broker runs other definitions than the federation"
    remedy = "ask the federation operator for the state of this party: `warren federation show DIR`"


class UnroutableError(TransportError):
    """No queue exists for the recipient."""

    code = "WRN-203"
    text = "{recipient} has no {lane} queue"
    cause = "the recipient was never added to the federation or was revoked, or the broker lacks the latest definitions"
    remedy = "compare `warren federation show DIR` with the broker, and import the definitions again"
    public = True


class QueueFullError(TransportError):
    """The recipient's queue is full."""

    code = "WRN-204"
    text = "the {lane} queue of {recipient} is full"
    cause = "the recipient is offline or slow, and its queue reached the size limit"
    remedy = "start the recipient; what is waiting is delivered first"
    public = True


class ReplyTimeoutError(TransportError):
    """A party did not answer in time."""

    code = "WRN-205"
    text = "{party} did not answer the {request} within {timeout_s} s"
    cause = "the party is offline or busy"
    remedy = "see `warren-researcher nodes` for who is online"
    public = True


class TransportClosedError(TransportError):
    """The connection was closed by this side."""

    code = "WRN-206"
    text = "cannot {action}: the transport of {party} is closed"
    cause = "the program is shutting down"
    remedy = "nothing, or open a new connection"


class NoSuchLetterError(TransportError):
    """No dead letter has this id."""

    code = "WRN-207"
    text = "the federation {federation} has no dead letter {letter}"
    cause = "the id is misspelt, or the letter was re-queued, dropped or is older than a month"
    remedy = "list them with `warren dead list DIR`"
