"""Nuclio's path to a Python handler, emulated: its front end, in Python instead of Go.

Each worker is a wrapper process with a unix socket. An event is sent as a length and a msgpack
map; the reply is a line of JSON after the letter `r`
(pkg/processor/runtime/python/py/_nuclio_wrapper.py, pkg/processor/runtime/rpc).
"""

import asyncio
import base64
import collections
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httptools
import msgpack
import uvloop

HERE = Path(__file__).resolve().parent
LINE_LIMIT = 64 * 1024 * 1024


class Pool:
    """The idle wrappers, and the requests that wait for one."""

    def __init__(self):
        self._free = collections.deque()
        self._waiting = collections.deque()

    def submit(self, event, answer):
        if self._free:
            self._free.popleft().give(event, answer)
        else:
            self._waiting.append((event, answer))

    def release(self, wrapper):
        if self._waiting:
            wrapper.give(*self._waiting.popleft())
        else:
            self._free.append(wrapper)


class Wrapper:
    """One wrapper process's event socket."""

    def __init__(self, pool, reader, writer):
        self._pool = pool
        self._reader = reader
        self._writer = writer
        self._answer = None

    def give(self, event, answer):
        self._answer = answer
        packed = msgpack.packb(event, use_bin_type=True)
        self._writer.write(len(packed).to_bytes(4, "big"))
        self._writer.write(packed)

    async def listen(self):
        while True:
            line = await self._reader.readline()
            if not line:
                return
            if line[:1] == b"s":
                self._pool.release(self)
            elif line[:1] == b"r":
                answer, self._answer = self._answer, None
                answer(json.loads(line[1:]))
                self._pool.release(self)


class Connection(asyncio.Protocol):
    """One client; its requests are answered one after the other."""

    def __init__(self, pool):
        self._pool = pool
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport):
        self._transport = transport
        self._begin()

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_message_begin(self):
        self._begin()

    def _begin(self):
        self._parts = []
        self._headers = {}
        self._url = b""

    def on_url(self, url):
        self._url += url

    def on_header(self, name, value):
        self._headers[name.decode().title()] = value.decode()

    def on_body(self, part):
        self._parts.append(part)

    def on_message_complete(self):
        body = b"".join(self._parts)
        event = {
            "body": body,
            "content_type": self._headers.get("Content-Type", ""),
            "trigger": {"kind": "http", "name": "http"},
            "fields": {},
            "headers": self._headers,
            "id": str(uuid.uuid4()),
            "method": self._parser.get_method().decode(),
            "path": self._url.decode(),
            "size": len(body),
            "timestamp": int(time.time()),
            "url": self._url.decode(),
            "shard_id": 0,
            "num_shards": 0,
            "type": "",
            "type_version": "",
            "version": "",
            "last_in_batch": False,
            "offset": 0,
            "topic": "",
        }
        self._pool.submit(event, self._reply)

    def _reply(self, reply):
        body = reply["body"]
        encoded = reply["body_encoding"] == "base64"
        data = base64.b64decode(body) if encoded else body.encode()
        head = (
            f"HTTP/1.1 {reply['status_code']} OK\r\nServer: nuclio\r\n"
            f"Content-Type: {reply['content_type']}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        if not self._transport.is_closing():
            self._transport.write(head.encode() + data)


def start_wrapper(path):
    return subprocess.Popen([sys.executable, str(HERE / "nuclio_wrapper.py"), path])


async def attend(pool, path):
    """Keep one wrapper process alive; Nuclio restarts its whole processor instead."""
    connected = asyncio.Queue()
    server = await asyncio.start_unix_server(
        lambda reader, writer: connected.put_nowait((reader, writer)), path, limit=LINE_LIMIT
    )
    async with server:
        while True:
            process = start_wrapper(path)
            reader, writer = await connected.get()
            await Wrapper(pool, reader, writer).listen()
            writer.close()
            process.kill()
            process.wait()


async def main():
    pool = Pool()
    folder = Path(os.environ["BENCH_FOLDER"])
    attending = [
        asyncio.create_task(attend(pool, str(folder / f"nuclio-rpc-{number}.sock")))
        for number in range(int(os.environ["BENCH_WORKERS"]))
    ]
    port = int(os.environ["BENCH_PORT"])
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(pool), "127.0.0.1", port)
    await asyncio.gather(*attending)


with contextlib.suppress(KeyboardInterrupt):
    uvloop.run(main())
