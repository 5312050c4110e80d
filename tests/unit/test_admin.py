"""What the broker's HTTP API stumbles over is asked for again, and no more often than told."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common.errors import BrokerAdminError
from deploy.admin import Admin


class Stumbling(HTTPServer):
    """Answers 500 some times, then 204."""

    def __init__(self, failures):
        super().__init__(("127.0.0.1", 0), Answer)
        self.failures, self.asked = failures, []


class Answer(BaseHTTPRequestHandler):
    def do_DELETE(self):
        self.server.asked.append(self.path)
        self.send_response(500 if len(self.server.asked) <= self.server.failures else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(failures):
        servers.append(server := Stumbling(failures))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server, Admin(server.server_port, "_operator", "secret", "trial")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_connections_that_end_meanwhile_are_closed_in_the_end(serve):
    server, admin = serve(failures=2)

    admin.close_connections("north")

    assert ["/api/connections/username/north"] * 3 == server.asked


def test_a_broker_that_goes_on_stumbling_is_an_error(serve):
    server, admin = serve(failures=99)

    with pytest.raises(BrokerAdminError, match="DELETE /api/connections/username/north: 500"):
        admin.close_connections("north")

    assert 5 == len(server.asked)
