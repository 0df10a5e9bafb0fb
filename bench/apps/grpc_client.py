"""A load generator for gRPC: connections of one asyncio loop, each one call at a time.

    python grpc_client.py TARGET CONCURRENCY SECONDS

BENCH_BODY is the file with the encoded request. The output is that of load.lua; `status` counts
the calls that failed.
"""

import asyncio
import os
import sys
import time

import grpc
from load_report import report

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT = 60.0


class Client:
    def __init__(self, target, seconds):
        self._target = target
        with open(os.environ["BENCH_BODY"], "rb") as file:
            self._request = file.read()
        self._end = time.perf_counter() + seconds
        self.latencies = []
        self.errors = {"status": 0}

    async def run(self):
        """One connection until the time is over."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._target, options) as channel:
            method = channel.unary_unary(METHOD)
            while time.perf_counter() < self._end:
                began = time.perf_counter()
                try:
                    await method(self._request, timeout=TIMEOUT)
                except grpc.RpcError:
                    self.errors["status"] += 1
                self.latencies.append((time.perf_counter() - began) * 1000.0)


asyncio.run(report(Client(sys.argv[1], float(sys.argv[3])), int(sys.argv[2])))
