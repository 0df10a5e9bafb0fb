"""A server for the tests, to be run by any interpreter from 3.6 on.

Its one argument is JSON: `fd` (listening sockets), `limits`, and `files` (how many descriptors it
may have). Paths choose what it does; lines such as PAUSE control it.
"""

import array
import asyncio
import gc
import hashlib
import json
import os
import resource
import socket
import sys
import time

from fnbuild.runtime.http.messages import DEFERRED, ConnectionLimits, Reply
from fnbuild.runtime.http.server import HttpServer


class Echo:
    def __init__(self, loop):
        self.loop = loop
        self.held = loop.create_future()
        self.errors = []
        self.refusals = []
        self.order = []
        self.server = None
        self.listener = None
        self.done = loop.create_future()

    def __call__(self, request):
        action = getattr(self, "on_" + request.path.strip("/"), None)
        if action is None:
            return Reply(404, [], b"no such action")
        return action(request)

    def on_echo(self, request):
        kind = request.header("content-type", "application/octet-stream")
        return Reply(200, [("Content-Type", kind)], request.body)

    async def on_inspect(self, request):
        return Reply.json(
            200,
            {
                "pid": os.getpid(),
                "method": request.method,
                "target": request.head.target,
                "path": request.path,
                "query": request.query,
                "version": request.head.version,
                "headers": request.head.fields,
                "keep_alive": request.head.keep_alive,
                "size": len(request.body),
                "sha256": hashlib.sha256(request.body).hexdigest(),
            },
        )

    async def on_sleep(self, request):
        await asyncio.sleep(float(request.query))
        return Reply(200, [], request.header("x-n", "").encode())

    def on_later(self, request):
        def answer():
            request.answer(Reply(200, [], b"later"))
            request.answer(Reply(500, [], b"a second answer"))

        self.loop.call_soon(answer)
        return DEFERRED

    async def on_hold(self, request):
        await asyncio.shield(self.held)
        return Reply(200, [], b"released")

    def on_release(self, request):
        self.held.set_result(None)
        self.held = self.loop.create_future()
        return Reply(200)

    def on_block(self, request):
        time.sleep(float(request.query))
        return Reply(200)

    def on_order(self, request):
        self.order.append(request.query)
        return Reply.json(200, self.order)

    def on_big(self, request):
        return Reply(200, [], bytes(int(request.query)))

    def on_status(self, request):
        return Reply(int(request.query), [], b"body")

    def on_raise(self, request):
        raise ValueError("raised at once")

    async def on_fail(self, request):
        await asyncio.sleep(0)
        raise ValueError("raised later")

    def on_reply(self, request):
        value = json.loads(bytes(request.body).decode())
        return Reply(200, [tuple(pair) for pair in value], b"ok")

    def on_text(self, request):
        return Reply(200, [], "not bytes")

    def on_bye(self, request):
        return Reply(200, [], b"bye", close=True)

    async def on_none(self, request):
        return None

    def on_counts(self, request):
        gc.collect()
        return Reply.json(
            200,
            {
                "connections": self.server.connections,
                "in_flight": self.server.in_flight,
                "refusals": self.refusals,
                "errors": self.errors,
                "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            },
        )

    def failed(self, message, error):
        self.errors.append(f"{message}: {error!r}")

    def commands(self):
        drains = {
            f"DRAIN {seconds}\n".encode(): lambda sock, s=seconds: self.drain(float(s))
            for seconds in ("0.2", "1", "600")
        }
        drains[b"PAUSE\n"] = lambda sock: self.server.pause()
        drains[b"LISTENERS\n"] = self.hand_over
        return drains

    def drain(self, seconds):
        async def drain():
            await self.server.drain(seconds)
            if not self.done.done():
                self.done.set_result(None)

        self.draining = self.loop.create_task(drain())

    def hand_over(self, sock):
        rights = array.array("i", [self.listener.fileno()])
        sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


async def main(loop, options):
    echo = Echo(loop)
    limits = ConnectionLimits(**options.get("limits", {}))
    echo.server = HttpServer(
        echo, limits, on_error=echo.failed, commands=echo.commands(), loop=loop
    )
    echo.server.on_refusal = lambda status, _reason: echo.refusals.append(status)
    for fd in options["fd"]:
        echo.listener = socket.socket(fileno=fd)
        echo.server.start(echo.listener)
    print("ready", flush=True)
    await echo.done
    # The last reply is written; were the listener closed or reading left over, this would show.
    print("drained", flush=True)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if "files" in settings:
        resource.setrlimit(resource.RLIMIT_NOFILE, (settings["files"], settings["files"]))
    the_loop = asyncio.new_event_loop()
    the_loop.run_until_complete(main(the_loop, settings))
    the_loop.close()
