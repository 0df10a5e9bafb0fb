"""Nuclio's path to a Python handler, emulated: the wrapper process of one handler.

The argument is the unix socket of its events; the event is the real nuclio_sdk.Event.
"""

import json
import socket
import sys
import time

import main
import msgpack
import nuclio_sdk
from nuclio_sdk.json_encoder import Encoder


def receive(sock, size):
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        count = sock.recv_into(view[at:])
        if not count:
            raise SystemExit(0)
        at += count
    return data


def serve(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    trigger = nuclio_sdk.TriggerInfo("http", "http")
    context = nuclio_sdk.Context(nuclio_sdk.Logger(20), nuclio_sdk.Platform("local"), "0", trigger)
    main.init_context(context)
    sock.sendall(b"s\n")
    while True:
        size = int.from_bytes(receive(sock, 4), "big")
        values = msgpack.unpackb(receive(sock, size), raw=False, max_bin_len=1 << 30)
        event = nuclio_sdk.Event.deserialize(
            values, nuclio_sdk.event.EventDeserializerKinds.msgpack
        )
        began = time.time()
        output = main.handler(context, event)
        duration = json.dumps({"duration": time.time() - began})
        reply = nuclio_sdk.Response.from_entrypoint_output(Encoder().encode, output)
        text = Encoder().encode(reply)
        sock.sendall(f"m{duration}\nr{text}\n".encode())


serve(sys.argv[1])
