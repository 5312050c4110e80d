"""The wire is a contract: a changed message needs a new protocol version."""

import hashlib
import json
from pathlib import Path

from common.messages import PROTOCOL_VERSION
from common.messages.schema import schema, schema_text

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
RELEASED = Path(__file__).with_name("released_schemas.json")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_schema_of_this_version_is_the_one_that_is_documented():
    documented = REFERENCE / f"messages-{PROTOCOL_VERSION}.schema.json"

    assert documented.read_text() == schema_text(), (
        "a message has changed: raise PROTOCOL_VERSION in common/messages/base.py, run `make docs`, and add the"
        " digest of the new version to tests/contracts/released_schemas.json"
    )


def test_no_released_schema_was_changed():
    released = json.loads(RELEASED.read_text())

    assert PROTOCOL_VERSION in released
    for version, expected in released.items():
        assert expected == digest((REFERENCE / f"messages-{version}.schema.json").read_text()), version


def test_every_message_is_closed():
    definitions = schema()["$defs"]

    closed = {
        name: definition.get("additionalProperties")
        for name, definition in definitions.items()
        if "properties" in definition
    }
    assert [] == [name for name, additional in closed.items() if additional is not False]
