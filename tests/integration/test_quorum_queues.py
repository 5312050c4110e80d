"""A federation works on quorum queues as on classic ones; what a cluster then does with them is RabbitMQ's promise, not tried here."""

from functools import partial

from common.errors import QueueFullError
from common.ids import PartyId
from common.transport.topology import Lane
from deploy import definitions
from deploy.federation import QueueLimits
from tests.support import broker as support
from tests.support.broker import FAST
from tests.support.slow import carry

SIZE = 2 * 1024 * 1024


def replicated(make_federation, monkeypatch, **options):
    monkeypatch.setattr(support, "full", partial(definitions.full, replicated=True))
    return make_federation(**options)


def test_payloads_pass_through_quorum_queues_and_go_on_after_a_cut(make_federation, monkeypatch, tmp_path):
    federation = replicated(make_federation, monkeypatch)
    kinds = {one["name"]: one["type"] for one in federation.admin._call("GET", "queues", federation.vhost)}
    assert {"quorum"} == {kinds[name] for name in kinds if name.endswith((".control", ".bulk"))}
    assert {"classic"} == {kinds[name] for name in kinds if name.endswith(".telemetry")}

    carried = carry(
        federation,
        tmp_path,
        SIZE,
        way="down",
        rate=20e6,
        delay=0.0,
        cuts=(0.5,),
        chunk_bytes=64 * 1024,
        timeouts=FAST,
    )

    assert carried.whole


def test_a_full_quorum_queue_refuses_what_is_sent(make_federation, monkeypatch):
    federation = replicated(make_federation, monkeypatch, limits=QueueLimits(control_bytes=2**20))
    alice = federation.transport("alice")
    try:
        alice.start(lambda _: None, ())
        errors = [
            alice.publish(Lane.CONTROL, (PartyId("north"),), bytes(2**18)).exception(30) for _ in range(12)
        ]
    finally:
        alice.close()

    assert isinstance(errors[-1], QueueFullError)
