"""TLS of connections to an API server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
import urllib3

from fnbuild.platforms.kubeclient import credentials
from fnbuild.platforms.kubeclient.kubeconfig import KubeContext

HTTP_1_1 = b"\x00\x10\x00\x0b\x00\x09\x08http/1.1"
"""The ALPN extension of a ClientHello: its type, three lengths and the protocol (RFC 7301)."""
CONNECTIONS = 3


def test_a_connection_does_not_change_the_tls_settings_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenSSL frees the list of protocols when it is set again, even if a thread is copying it."""
    changes = []
    set_protocols = ssl.SSLContext.set_alpn_protocols

    def count(context: ssl.SSLContext, protocols: Iterable[str]) -> None:
        changes.append(list(protocols))
        set_protocols(context, changes[-1])

    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", count)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greetings: list[bytes] = []
        accepting = threading.Thread(target=read_greetings, args=(listener, greetings))
        accepting.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        context = KubeContext("a", Path("config"), "default", {"server": url}, {}, ())
        pool = credentials.of_context(context).connection_pool(CONNECTIONS)
        for _ in range(CONNECTIONS):
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                pool.request("GET", url, retries=False, timeout=30.0)
        accepting.join()
    assert [HTTP_1_1 in greeting for greeting in greetings] == [True] * CONNECTIONS
    assert changes == [["http/1.1"]]


def read_greetings(listener: socket.socket, greetings: list[bytes]) -> None:
    """Read the ClientHello of each connection, and close it."""
    for _ in range(CONNECTIONS):
        connection, _ = listener.accept()
        with connection:
            greetings.append(connection.recv(65536))
