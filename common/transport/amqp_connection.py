"""Open connections to RabbitMQ with pika, and say in our own errors why they fail."""

from __future__ import annotations

import contextlib
import logging
import ssl
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pika

from common.clock import Clock
from common.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    CertificateExpiredError,
    UnknownAuthorityError,
    WarrenError,
)
from common.metrics import TIMEOUTS
from common.settings import Connection

_READ_BYTES: Final = 16 * 1024
"""One TLS record, which is the most that one read returns."""
_TURN_BYTES: Final = 256 * 1024
"""Most that one connection reads before the others get their turn."""
_JOIN_BYTES: Final = 64 * 1024
_FRAME_HEAD: Final = struct.Struct(">BHI")
_FRAME_END: Final = bytes((pika.spec.FRAME_END,))
_X509_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL
_REFUSALS: Final = (
    "ACCESS_REFUSED",
    "NOT_ALLOWED",
    "NOT_FOUND",
    "PRECONDITION_FAILED",
    "is deleted",
    "ALERT_",
)
"""What a broker, or its TLS, says when it answers and will not have this party."""

# pika reports each failed attempt with several errors and tracebacks; this package reports it once, classified.
_pika_logger = logging.getLogger("pika")
if _pika_logger.level == logging.NOTSET:
    _pika_logger.setLevel(logging.CRITICAL)


class BrokerConnection(pika.SelectConnection):  # type: ignore[misc]  # pika is untyped
    """A pika connection that moves large bodies cheaply, writes small messages at once, and can be dropped at once.

    pika 1.4 reads 4 KiB at a time, copies what it has not parsed yet with every read, copies each body four times to send it,
    and makes one TLS record and system call of each frame; it waits for each socket to become writable, which takes two more turns of
    its loop. That triples the CPU time of a message. What is replaced here are private parts of pika, so `pyproject.toml` pins its minor version.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._unparsed = bytearray()
        super().__init__(*args, **options)

    def _proto_connection_made(self, transport: Any) -> None:
        if hasattr(transport, "_MAX_RECV_BYTES") and hasattr(transport, "_MAX_CONSUME_BYTES"):
            transport._MAX_RECV_BYTES = _READ_BYTES  # noqa: SLF001  see the class
            transport._MAX_CONSUME_BYTES = _TURN_BYTES  # noqa: SLF001  see the class
        super()._proto_connection_made(transport)

    def _on_data_available(self, data_in: bytes) -> None:
        """Handle the frames that are complete and keep the rest."""
        self.bytes_received += len(data_in)  # what heartbeats look at
        unparsed = self._unparsed
        unparsed += data_in
        at, size = 0, len(unparsed)
        while size - at > _FRAME_HEAD.size:
            kind, channel, length = _FRAME_HEAD.unpack_from(unparsed, at)
            if length > pika.spec.FRAME_MAX_SIZE:
                raise pika.exceptions.InvalidFrameError(f"a frame of {length} bytes")
            body, end = at + _FRAME_HEAD.size, at + _FRAME_HEAD.size + length
            if end >= size:
                break
            if kind == pika.spec.FRAME_BODY and unparsed[end] == pika.spec.FRAME_END:
                frame = pika.frame.Body(channel, bytes(memoryview(unparsed)[body:end]))
            else:
                _, frame = pika.frame.decode_frame(bytes(memoryview(unparsed)[at : end + 1]))
            at = end + 1
            self._process_frame(frame)
        del unparsed[:at]

    def _send_message(
        self, channel_number: int, method_frame: Any, content: tuple[pika.BasicProperties, bytes]
    ) -> None:
        properties, body = content
        view, most = memoryview(body), self._body_max_length
        frames = [
            pika.frame.Method(channel_number, method_frame).marshal(),
            pika.frame.Header(channel_number, len(view), properties).marshal(),
        ]
        for start in range(0, len(view), most):
            piece = view[start : start + most]
            head = _FRAME_HEAD.pack(pika.spec.FRAME_BODY, channel_number, len(piece))
            frames.append(b"".join((head, piece, _FRAME_END)))
        self._output_marshaled_frames(frames)

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        if sum(map(len, marshaled_frames)) <= _JOIN_BYTES:
            marshaled_frames = [b"".join(marshaled_frames)]
        super()._output_marshaled_frames(marshaled_frames)

    def _adapter_emit_data(self, data: bytes) -> None:
        """Give the socket one record at once; what it does not take, and any error, is for pika, which waits for the socket first."""
        if len(data) <= _READ_BYTES and self._is_idle():
            with contextlib.suppress(OSError):
                data = data[self._transport._sock.send(data) :]  # noqa: SLF001  see the class
        if data:
            super()._adapter_emit_data(data)

    def _is_idle(self) -> bool:
        """Tell whether nothing waits to be sent, and TLS waits for nothing but data."""
        state = vars(self._transport)
        return (
            state["_state"] == self._transport._STATE_ACTIVE  # noqa: SLF001  see the class
            and not state["_tx_buffers"]
            and not state.get("_ssl_writable_action", True)
            and state["_ssl_readable_action"] == self._transport._consume  # noqa: SLF001  see the class
        )

    def _on_connection_workflow_done(self, conn_or_exc: Any) -> None:
        # pika hands over the class itself when a connection is dropped while it logs in, takes that for a connection, and fails.
        super()._on_connection_workflow_done(conn_or_exc() if isinstance(conn_or_exc, type) else conn_or_exc)

    def drop(self) -> None:
        """End now, without a word to the broker, which may not be there any more."""
        if not self.is_closed and not self.is_closing:
            self.close()
        if self._transport is not None:
            self._transport.abort()


def parameters(connection: Connection, context: ssl.SSLContext, purpose: str) -> pika.ConnectionParameters:
    """Return how to reach the broker: TLS both ways, the certificate as login."""
    timeouts = connection.timeouts
    return pika.ConnectionParameters(
        host=connection.host,
        port=connection.port,
        virtual_host=connection.vhost,
        credentials=pika.credentials.ExternalCredentials(),
        ssl_options=pika.SSLOptions(context, connection.server_name),
        heartbeat=max(1, round(timeouts.heartbeat_s)),
        socket_timeout=timeouts.connect_s,
        stack_timeout=timeouts.connect_s,
        connection_attempts=1,
        client_properties={"connection_name": f"{connection.party} {purpose}"},
    )


def diagnose(error: BaseException, connection: Connection, clock: Clock) -> WarrenError:
    """Return what the failure of a connection or channel means for the person who runs this party.

    pika nests the cause, or keeps only its text, so the text decides where the type is lost.
    """
    *_, cause = _causes(error)
    text = repr(error)
    where = {"host": connection.host, "port": connection.port}
    expired = f"or before {datetime.fromtimestamp(clock.now(), UTC).date()}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if cause.verify_code == _X509_EXPIRED:
            return CertificateExpiredError(party="the broker", expired=expired)
        return UnknownAuthorityError(**where, reason=cause.verify_message)
    if "ALERT_CERTIFICATE_EXPIRED" in text:
        return CertificateExpiredError(party=connection.party, expired=expired)
    if any(word in text for word in _REFUSALS):
        return BrokerRefusedError(**where, party=connection.party, reason=_reason(cause))
    if isinstance(cause, pika.exceptions.AMQPHeartbeatTimeout):
        TIMEOUTS.labels("heartbeat_s").inc()
    elif "timed out" in text or "Timeout" in text:
        TIMEOUTS.labels("connect_s").inc()
    return BrokerUnreachableError(**where, reason=_reason(cause))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error of pika and those nested in it, innermost last."""
    yield error
    nested = getattr(error, "exceptions", None) or [getattr(error, "exception", None), *error.args]
    inner = next((item for item in reversed(nested) if isinstance(item, BaseException)), None)
    if inner is not None:
        yield from _causes(inner)


def _reason(error: BaseException) -> str:
    if isinstance(error, pika.exceptions.ConnectionClosed | pika.exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    return str(error) or type(error).__name__
