"""Commands that run in pods of TorchServe: the readiness probe, the end of a pod, requests.

They run as source text with the Python of the image, 3.6 or newer, and the standard library:
`python3 -I -S -c SOURCE KEYS PORT COMMAND …`, with the file of the tokens and the management port.

    ready MODEL…              succeed if every model has a ready worker
    send METHOD PATH SECONDS  print the status of a request to the management API, and its body
    key                       print the token of the inference API, "" without tokens
    end LINGER SECONDS PORT   serve on while clients still come, wait for the last request at most
                              so many seconds, and end TorchServe; with a port, also wait until it
                              has no connections
"""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from typing import Any, Dict, Tuple

Keys = Dict[str, Dict[str, Any]]

PROBE_SECONDS = 9.0
QUIET_POLLS = 5
POLL_SECONDS = 0.2
BUSY_LOCK_VARIABLE = "FNBUILD_BUSY_LOCK"
ESTABLISHED = "01"
MODEL_SERVER = b"org.pytorch.serve.ModelServer"


def request(port: int, method: str, path: str, key: str, seconds: float) -> Tuple[int, bytes]:
    """Return status and body; http.client alone would take more time than the request."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.settimeout(seconds)
        lines = ["%s %s HTTP/1.0" % (method, path), "Host: localhost", "Content-Length: 0"]
        lines += ["Authorization: Bearer " + key] if key else []
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        reply = connection.makefile("rb")
        status = int(reply.readline().split(None, 2)[1])
        size = 0
        for line in iter(reply.readline, b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        return status, reply.read(size)


def read_keys(file: str) -> Keys:
    """Return the tokens; there are none without token authorization."""
    text = ""
    # The server empties the file before it writes it again.
    while not text.endswith("}"):
        try:
            with open(file) as content:
                text = content.read()
        except FileNotFoundError:
            return {}
        time.sleep(0 if text else 0.01)
    return dict(json.loads(text))


def token(file: str, api: str) -> str:
    """Return the token of an API; "" without tokens."""
    keys = read_keys(file)
    return str(keys[api]["key"]) if keys else ""


def send(file: str, port: int, method: str, path: str, seconds: float) -> Tuple[int, bytes]:
    """Send a request to the management API."""
    return request(port, method, path, token(file, "management"), seconds)


def require_ready(file: str, port: int, model: str) -> None:
    """Exit with the reason unless the model has a ready worker."""
    status, body = send(file, port, "GET", "/models/" + model, PROBE_SECONDS)
    if status != 200:
        sys.exit("%s: %s" % (model, body.decode(errors="replace")))
    versions = json.loads(body.decode())
    states = [worker["status"] for version in versions for worker in version["workers"]]
    if "READY" not in states:
        sys.exit("%s has no ready worker: %s" % (model, ", ".join(states) or "it has none"))


def end(linger: float, seconds: float, port: int) -> None:
    """End TorchServe after its last request."""
    time.sleep(linger)
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < QUIET_POLLS and time.monotonic() < deadline:
        quiet = quiet + 1 if is_idle(port) else 0
        time.sleep(POLL_SECONDS)
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % process, "rb") as file:
                if MODEL_SERVER in file.read().split(b"\0"):
                    os.kill(int(process), signal.SIGTERM)
        except OSError:
            continue


def is_idle(port: int) -> bool:
    """Return True if no handler holds the lock, and the port, if any, has no connections."""
    try:
        with open(os.environ[BUSY_LOCK_VARIABLE], "rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, KeyError):
        pass  # no handler has locked anything
    return not port or not has_connections(port)


def has_connections(port: int) -> bool:
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        suffix = ":%04X" % port
        if any(row[1].endswith(suffix) and row[3] == ESTABLISHED for row in rows):
            return True
    return False


def main() -> None:
    file, port, command = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    arguments = sys.argv[4:]
    if command == "ready":
        for model in arguments:
            require_ready(file, port, model)
    elif command == "send":
        status, body = send(file, port, arguments[0], arguments[1], float(arguments[2]))
        sys.stdout.buffer.write(b"%d\n" % status + body)
    elif command == "key":
        sys.stdout.write(token(file, "inference"))
    elif command == "end":
        end(float(arguments[0]), float(arguments[1]), int(arguments[2]))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit("TorchServe does not answer: %s" % error)
