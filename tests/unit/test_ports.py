"""A port that is kept for a server is given to nobody else, and the server can have it."""

import socket

import pytest

from common.errors import PortTakenError
from deploy import ports
from deploy.ports import Reservation


def listen(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Erlang does
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_reserved_port_is_not_given_away_twice(monkeypatch):
    with Reservation() as first, Reservation() as second:
        port = first.take_any()
        monkeypatch.setattr(ports, "_LOWEST", port)
        monkeypatch.setattr(ports, "_HIGHEST", port + 100)

        others = [second.take_any() for _ in range(20)]

    assert port not in others
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("way", ["any", "given"])
def test_the_server_itself_can_listen_on_a_reserved_port(way):
    with Reservation() as reservation:
        port = reservation.take_any()
        if way == "given":
            reservation.close()
            reservation.take(port)
        listen(port).close()


def test_a_port_on_which_somebody_listens_cannot_be_reserved():
    with socket.create_server(("127.0.0.1", 0)) as other, Reservation() as reservation:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=str(port)):
            reservation.take(port)
