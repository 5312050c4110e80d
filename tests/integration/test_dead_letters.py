"""What a party refused is listed, shown, put back and removed, on a real broker, by whoever has the federation."""

import json
import logging
import queue
import time

import pytest
from typer.testing import CliRunner

from common.ids import PartyId
from common.mailbox import Mailbox
from common.messages import PingRequest, encode
from common.security.sealing import Sealer
from common.transport.amqp_dead import DeadLetters
from common.transport.topology import Lane, letter_id
from deploy.cli import app
from tests.support.inbox import settled
from tests.support.intruder import eventually

ALICE, NORTH, SOUTH = map(PartyId, ("alice", "north", "south"))
DEADLINE_S = 30


def called(running, words, *arguments, code=0):
    result = CliRunner().invoke(app, ["dead", words, str(running.federation.path), *arguments, "--json"])
    assert code == result.exit_code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def running(make_federation):
    return make_federation(researchers=("alice",), nodes=("north", "south"))


@pytest.fixture
def refused(running):
    """Make parties refuse what a broken researcher sends them, and return what it sent."""

    def refused(*bodies, recipients=(NORTH,)):
        received = []
        sender = running.transport(ALICE)
        sender.start(lambda delivery: delivery.reject(), ())
        for body in bodies:
            settled(sender.publish(Lane.CONTROL, recipients, body))
        sender.close()
        for party in recipients:
            mailbox = Mailbox.of_kit(running.kit(party), running.transport(party))
            mailbox.start(received.append)
            eventually(lambda: not received and not running.depth(f"inbox.{party}.alice.control"))  # noqa: B023 - asked at once
            mailbox.close()
        eventually(lambda: len(running.dead()) == len(bodies) * len(recipients))
        return bodies

    return refused


def sealed(running, message, keys=ALICE):
    kit = running.kit(keys)
    return Sealer(kit.identity, kit.roster).seal(Lane.CONTROL, message.recipients, encode(message))


def test_what_a_party_refused_is_listed_with_what_the_envelope_tells(running, refused):
    began = time.time() - 2
    genuine = sealed(running, PingRequest(sender=ALICE, recipients=(NORTH,)))
    damaged = genuine[:-1] + bytes((genuine[-1] ^ 1,))
    refused(damaged, b"nonsense")

    first, second = called(running, "list")["letters"]

    assert (letter_id(damaged), "alice", "north", "control") == (
        first["letter"],
        first["from"],
        first["to"],
        first["lane"],
    )
    assert ("rejected", "alice", len(damaged), ["north"]) == (
        first["reason"],
        first["user"],
        first["size_bytes"],
        first["recipients"],
    )
    assert began < first["died_at"] < time.time() + 2
    assert [] == second["recipients"]
    assert [first] == called(running, "show", first["letter"])["letters"]
    text = CliRunner().invoke(app, ["dead", "list", str(running.federation.path)]).output
    assert first["letter"] in text


def test_the_log_of_the_party_that_refused_names_the_letter_and_why(running, refused, caplog):
    with caplog.at_level(logging.WARNING):
        refused(b"nonsense")

    (letter,) = called(running, "list")["letters"]
    (told,) = [record for record in caplog.records if getattr(record, "action", "") == "message_refused"]
    assert letter["letter"] == told.letter
    assert "not a sealed message" in told.error


def test_looking_changes_nothing_and_the_order_stays(running, refused):
    bodies = refused(b"one", b"two", b"three")

    for _ in range(3):
        assert [letter_id(body) for body in bodies] == [
            letter["letter"] for letter in called(running, "list")["letters"]
        ]


def test_a_letter_is_put_back_and_reaches_the_party_as_from_its_sender(running, refused):
    """A message for keys that a party no longer had is refused; with its keys back it is done after all."""
    message = PingRequest(sender=ALICE, recipients=(NORTH,))
    body = sealed(running, message)
    connection = running.connect("north")
    channel = connection.channel()
    sender = running.transport(ALICE)
    sender.start(lambda delivery: delivery.reject(), ())
    settled(sender.publish(Lane.CONTROL, (NORTH,), body))
    sender.close()
    channel.basic_reject(channel.basic_get("inbox.north.alice.control")[0].delivery_tag, requeue=False)
    connection.close()
    eventually(running.dead)

    (moved,) = called(running, "requeue", letter_id(body))["requeued"]

    mails = queue.SimpleQueue()
    mailbox = Mailbox.of_kit(running.kit(NORTH), running.transport(NORTH))
    mailbox.start(mails.put)
    mail = mails.get(timeout=DEADLINE_S)
    mail.ack()
    mailbox.close()
    assert message == mail.message
    assert (0, "north") == (moved["requeued"], moved["to"])
    assert [] == called(running, "list")["letters"]


def test_a_letter_that_dies_again_is_counted(running, refused):
    refused(b"nonsense")
    called(running, "requeue", "--all")
    eventually(lambda: running.depth("inbox.north.alice.control") == 1)
    mailbox = Mailbox.of_kit(running.kit(NORTH), running.transport(NORTH))
    mailbox.start(print)
    eventually(running.dead)
    mailbox.close()

    (letter,) = called(running, "list")["letters"]
    assert 1 == letter["requeued"]


def test_every_copy_of_a_broadcast_goes_back_to_its_own_queue(running, refused):
    (body,) = refused(b"nonsense", recipients=(NORTH, SOUTH))

    moved = called(running, "requeue", letter_id(body))["requeued"]

    assert {"north", "south"} == {letter["to"] for letter in moved}
    for party in ("north", "south"):
        eventually(lambda party=party: running.depth(f"inbox.{party}.alice.control") == 1)


def test_only_the_letters_that_are_named_are_removed(running, refused):
    one, two = refused(b"one", b"two")

    assert [letter_id(one)] == [
        letter["letter"] for letter in called(running, "drop", letter_id(one))["dropped"]
    ]
    assert [letter_id(two)] == [letter["letter"] for letter in called(running, "list")["letters"]]
    called(running, "drop", "--all")
    assert [] == running.dead()


def test_an_id_that_no_letter_has_is_an_error(running, refused):
    refused(b"one")
    for words in ("show", "requeue", "drop"):
        assert "WRN-207" == called(running, words, "f" * 12, code=1)["error"]["code"]
    assert 1 == len(running.dead())


def test_a_letter_whose_queue_is_gone_stays_and_says_so(running, refused):
    (body,) = refused(b"one")
    running.revoke("north")

    assert "WRN-203" == called(running, "requeue", letter_id(body), code=1)["error"]["code"]
    assert 1 == len(running.dead())


def test_nobody_but_the_registrar_can_look(running):
    kit = running.kit(NORTH)
    with pytest.raises(Exception, match="WRN-202"), DeadLetters(kit.connection, kit.ssl_context()) as letters:
        letters.all()
