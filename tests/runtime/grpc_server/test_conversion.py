"""Calls of gRPC as requests of HTTP."""

from __future__ import annotations

import pytest

from fnbuild.runtime.grpc_server.conversion import forwarded_headers


@pytest.mark.parametrize(
    "metadata",
    [
        ("x-test", "a\r\nX-More: 1"),
        ("x-test", "a\nGET / HTTP/1.1"),
        ("x-test", "a\0"),
        ("x test", "1"),
        ("x\r\ntest", "1"),
        (":path", "/"),
        ("grpc-timeout", "1S"),
        ("x-bin", b"\x00"),
        ("content-length", "5"),
    ],
)
def test_metadata_that_would_change_the_request_are_left_out(metadata):
    assert forwarded_headers([metadata, ("x-kept", "caf\xe9\t1")]) == [("x-kept", "caf\xe9\t1")]
