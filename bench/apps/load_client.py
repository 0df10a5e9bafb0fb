"""A load generator for machines without wrk: persistent connections on one asyncio loop.

    python load_client.py URL CONCURRENCY SECONDS

BENCH_BODY is the file with the body, BENCH_HEADERS has its headers, one on each line. The output is
that of load.lua.
"""

import asyncio
import os
import sys
import time
from urllib.parse import urlsplit

from load_report import report


class Client:
    def __init__(self, url, seconds):
        self._url = urlsplit(url)
        with open(os.environ["BENCH_BODY"], "rb") as file:
            body = file.read()
        headers = os.environ["BENCH_HEADERS"].replace("\n", "\r\n")
        self._request = (
            f"POST {self._url.path} HTTP/1.1\r\nHost: {self._url.netloc}\r\n{headers}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._end = time.perf_counter() + seconds
        self.latencies = []
        self.errors = {"connect": 0, "read": 0, "status": 0}

    async def run(self):
        """One connection, opened again when the server closes it, until the time is over."""
        while time.perf_counter() < self._end:
            try:
                reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
            except OSError:
                self.errors["connect"] += 1
                continue
            try:
                while time.perf_counter() < self._end and await self._once(reader, writer):
                    pass
            except (OSError, EOFError):
                self.errors["read"] += 1
            writer.close()

    async def _once(self, reader, writer):
        began = time.perf_counter()
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(fields["content-length"]))
        self.errors["status"] += not head.startswith(("http/1.1 200", "http/1.0 200"))
        self.latencies.append((time.perf_counter() - began) * 1000.0)
        return fields.get("connection") != "close"


asyncio.run(report(Client(sys.argv[1], float(sys.argv[3])), int(sys.argv[2])))
