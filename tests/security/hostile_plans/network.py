"""Plans that try to talk to somebody."""

import os
import socket


def attack_connect_by_tcp(facts):
    with socket.create_connection(("127.0.0.1", facts["tcp_port"]), timeout=5) as connection:
        return connection.sendall(b"patients")


def attack_send_by_udp(facts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"patients", ("127.0.0.1", facts["tcp_port"]))


def attack_listen_by_tcp(facts):
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()


def attack_make_an_ipv6_socket(facts):
    return socket.socket(socket.AF_INET6).close() or "made"


def attack_ask_the_kernel_by_netlink(facts):
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close() or "made"


def attack_connect_to_a_unix_socket(facts):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(facts["unix_socket"])
        return connection.sendall(b"patients")


def attack_connect_to_an_abstract_unix_socket(facts):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0" + facts["abstract_socket"])
        return connection.sendall(b"patients")


def attack_send_to_a_unix_socket_from_a_pair(facts):
    one, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"patients", facts["unix_datagram"])


def attack_serve_an_abstract_unix_socket(facts):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{facts['abstract_socket']}-{os.getpid()}")
        return "bound"
