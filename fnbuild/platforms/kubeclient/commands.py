"""Commands in the containers of pods, as in `kubectl exec`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fnbuild.errors import PlatformError, UnavailableError
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.objects import KubeObject
from fnbuild.platforms.kubeclient.websockets import open_websocket

_OUTPUT, _ERROR_OUTPUT, _STATUS = 1, 2, 3


def run_command(  # noqa: PLR0913, PLR0917 (the container, the command and its time)
    cluster: Cluster,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    seconds: float = 30.0,
) -> bytes:
    """Return the output of a command in a container.

    Raises `PlatformError` with its error output if it fails, and `UnavailableError` if it does not
    end in time.
    """
    from websocket import ABNF, WebSocketException

    query = {"container": container, "command": list(command), "stdout": "true", "stderr": "true"}
    socket = open_websocket(cluster, namespace, pod, "exec", query)
    channels = {_OUTPUT: bytearray(), _ERROR_OUTPUT: bytearray(), _STATUS: bytearray()}
    try:
        socket.settimeout(seconds)
        while True:
            opcode, data = socket.recv_data()
            if opcode == ABNF.OPCODE_CLOSE:
                break
            if data and data[0] in channels:
                channels[data[0]] += data[1:]
    except (WebSocketException, OSError) as error:
        if not channels[_STATUS]:
            raise UnavailableError(
                f"pod {pod} has not answered within {seconds:g} s", hint="try again"
            ) from error
    finally:
        socket.shutdown()
    _check_status(pod, channels)
    return bytes(channels[_OUTPUT])


def _check_status(pod: str, channels: dict[int, bytearray]) -> None:
    status = KubeObject(json.loads(channels[_STATUS] or b"{}"))
    if status.get("status") == "Success":
        return
    codes = [
        f"exit status {cause.text('message')}"
        for cause in status.section("details").items_of("causes")
        if cause.text("reason") == "ExitCode"
    ]
    reason = next(iter(codes), status.text("message")) or "its end is unknown"
    detail = channels[_ERROR_OUTPUT].decode(errors="replace").strip()
    raise PlatformError(f"a command in pod {pod} failed: {reason}", detail=detail or None)
