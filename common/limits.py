"""State the sizes that every party agrees on, in bytes unless the name says otherwise."""

from typing import Final

CHUNK_BYTES: Final = 1024 * 1024
"""Payload bytes in one message of the bulk lane; RabbitMQ 3.10 to 4.x carry this without trouble."""

HEADER_BYTES: Final = 256 * 1024
"""JSON part of one message, plan source included."""

INLINE_BYTES: Final = 256 * 1024
"""Largest payload that rides behind its JSON in one message of the control lane."""

MESSAGE_BYTES: Final = CHUNK_BYTES + HEADER_BYTES
"""Largest body on any lane."""

PLAN_SOURCE_BYTES: Final = 128 * 1024
"""Largest source of a training plan."""

PAYLOAD_BYTES: Final = 64 * 1024**3
"""Largest payload that a manifest may announce; a node's policy usually says less."""

SEND_WINDOW_CHUNKS: Final = 4
"""Chunks that a sender leaves unconfirmed."""

DAMAGED_TRIES: Final = 3
"""How often a payload may turn out to be other bytes than announced before its receiver gives it up."""

BULK_PREFETCH: Final = 2
BULK_TOTAL: Final = 8
"""Chunks that a party takes in at once from all its peers together, as long as each gets one."""
CONTROL_PREFETCH: Final = 32
TELEMETRY_PREFETCH: Final = 128

UPDATE_NORM: Final = 1e12
"""Largest Euclidean norm of what one update changes; training does not come near it, and float32 sums hold it."""

METRICS: Final = 100
"""Metrics that one validation may report."""
