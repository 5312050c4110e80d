"""Export the JSON Schema of every message, which is the contract between versions of Warren."""

from __future__ import annotations

import json
from typing import Any

from common.messages.base import PROTOCOL_VERSION
from common.messages.codec import ADAPTER


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the union of all messages, with the protocol version that it belongs to."""
    document = ADAPTER.json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "version": PROTOCOL_VERSION,
        **document,
    }


def schema_text() -> str:
    """Return the schema as the text that is kept in `docs/reference`."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"
