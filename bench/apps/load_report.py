"""The figures of a load client, as one line of JSON on stdout."""

import asyncio
import json
import time


async def report(client, concurrency):
    """Run `client.run()` so many times concurrently; print its `latencies` (ms) and `errors`."""
    began = time.perf_counter()
    await asyncio.gather(*[client.run() for _ in range(concurrency)])
    took = time.perf_counter() - began
    latencies = sorted(client.latencies) or [0.0]
    result = {
        "requests": len(client.latencies),
        "seconds": took,
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
        "errors": client.errors,
    }
    print(json.dumps(result))
