"""Clients that never repeat a request count every request without a reply."""

from __future__ import annotations

import socket
import threading

from bench.steady_clients import SteadyClients
from tests.bench.test_load import serving
from tests.engine import free_port, until


def test_replies_are_counted_by_their_text() -> None:
    with serving(lambda _: (200, b"here")) as url, SteadyClients(url, 4, 0.0) as clients:
        until("the load", lambda: clients.answered["here"] > 50)
    assert not clients.lost
    assert 0 < clients.gap < 20
    assert clients.total == clients.answered.total()


def test_other_statuses_count_as_losses() -> None:
    with serving(lambda _: (503, b"busy")) as url, SteadyClients(url, 2, 0.0) as clients:
        until("the load", lambda: clients.total > 10)
    assert list(clients.lost) == ["status 503: busy"]


def test_a_refused_connection_is_a_loss_and_clients_go_on() -> None:
    with SteadyClients(f"http://127.0.0.1:{free_port()}") as clients:
        until("two losses each", lambda: clients.total > 12)
        assert [text.partition(":")[0] for text in clients.lost] == ["ConnectionRefusedError"]
        with serving(lambda _: (200, b"back")) as url:
            clients.url = url
            until("the load", lambda: clients.answered["back"] > 20)


def test_a_connection_closed_without_a_reply_is_a_loss() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            for _ in range(2):
                connection, _address = server.accept()
                connection.recv(4096)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with SteadyClients(f"http://127.0.0.1:{server.getsockname()[1]}", 2, 0.2) as clients:
            until("both", lambda: clients.lost.total() == 2)
            server.close()
        thread.join()
    assert any("RemoteDisconnected" in text or "Reset" in text for text in clients.lost)
