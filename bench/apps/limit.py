"""The limit: the handler called in a loop, in as many processes as the servers have workers.

    python limit.py tuned|default

It prints the line `ready` when every process is ready. For each line `SECONDS` that it reads, it
calls the handler that long and prints one line of JSON. BENCH_BODY is the file with the request's
body. `tuned` sets the allocator as fnbuild's workers do.
"""

import ctypes
import json
import multiprocessing
import os
import sys
import time

# malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
MEBIBYTE = 1024 * 1024


def tune():
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 32 * MEBIBYTE)
        library.mallopt(M_TRIM_THRESHOLD, 256 * MEBIBYTE)


def work(pipe, tuned):
    """Run one process: send the handler's reply first, then counts and latencies on request."""
    if tuned:
        tune()
    import calling

    calling.prepare()
    with open(os.environ["BENCH_BODY"], "rb") as file:
        body = file.read()
    json.dumps(calling.call(body))
    pipe.send("ready")
    while True:
        try:
            seconds = pipe.recv()
        except EOFError:
            return
        pipe.send(loop(calling.call, body, seconds))


def loop(call, body, seconds):
    clock = time.perf_counter
    durations = []
    start = before = clock()
    end = start + seconds
    while before < end:
        json.dumps(call(body))
        now = clock()
        durations.append(now - before)
        before = now
    durations.sort()
    return {
        "requests": len(durations),
        "seconds": before - start,
        "p50": durations[len(durations) // 2] * 1000.0,
        "p99": durations[int(len(durations) * 0.99)] * 1000.0,
    }


def main():
    context = multiprocessing.get_context("spawn")
    pipes = []
    for _ in range(int(os.environ["BENCH_WORKERS"])):
        near, far = context.Pipe()
        arguments = (far, sys.argv[1] == "tuned")
        context.Process(target=work, args=arguments, daemon=True).start()
        far.close()
        pipes.append(near)
    for pipe in pipes:
        pipe.recv()
    print("ready", flush=True)
    for line in sys.stdin:
        for pipe in pipes:
            pipe.send(float(line))
        print(json.dumps([pipe.recv() for pipe in pipes]), flush=True)


if __name__ == "__main__":
    main()
