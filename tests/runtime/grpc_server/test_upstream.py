"""The connections between the gRPC server and the processor."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fnbuild.runtime.grpc_server.upstream import Upstream


def test_a_connection_is_used_again_unless_its_answer_ends_it(tmp_path):
    connections = []

    async def answer(reader, writer):
        connections.append(writer)
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                closing = b"Connection: close\r\n" if b"GET /last" in head else b""
                writer.write(b"HTTP/1.1 200 OK\r\n" + closing + b"Content-Length: 2\r\n\r\nok")
        writer.close()

    async def run():
        path = str(tmp_path / "processor.sock")
        server = await asyncio.start_unix_server(answer, path)
        upstream = Upstream(path)
        for target in ("/one", "/last", "/two", "/last"):
            assert (await upstream.get(target)).body == b"ok"
        server.close()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    asyncio.run(run())
    assert len(connections) == 2
