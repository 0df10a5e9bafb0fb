"""WebSockets to pods through the API server, whose frames begin with a channel."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fnbuild.platforms.kubeclient import connection_errors, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject

_PROTOCOL = "v4.channel.k8s.io"
_SEND_BUFFER = 1024 * 1024
_CONNECT_SECONDS = 30.0


def open_websocket(
    cluster: Cluster,
    namespace: str,
    pod: str,
    subresource: str,
    query: Mapping[str, str | Sequence[str]],
) -> Any:
    """Open a WebSocket to a subresource of a pod: `portforward` or `exec`.

    Raises `ForbiddenError` without the permission, and `UnavailableError` if the pod is not
    running.
    """
    from websocket import WebSocketBadStatusException, WebSocketException, create_connection

    transport = cluster.transport
    subject = RequestSubject(
        "create", kinds.POD, namespace, pod, subresource, cluster.server, cluster.context
    )
    path = kinds.POD.path(namespace, pod, subresource)
    url = f"{transport.access.url}{path}?{urlencode(query, doseq=True)}".replace("http", "ws", 1)
    headers = {}
    if (authorization := transport.access.authorization()) is not None:
        headers["Authorization"] = authorization
    try:
        tunnel = create_connection(
            url,
            header=headers,
            subprotocols=[_PROTOCOL],
            timeout=_CONNECT_SECONDS,
            skip_utf8_validation=True,
            **transport.access.websocket_options(),
        )
        tunnel.settimeout(None)
    except WebSocketBadStatusException as error:
        raise transport.error_of(error.status_code, error.resp_body or b"", subject) from error
    except (WebSocketException, OSError) as error:
        raise connection_errors.connection_error(
            error, transport.location, transport.access.proxy
        ) from error
    # A send after poll must not block: the pod may be waiting for its response to be read.
    assert tunnel.sock is not None
    tunnel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return tunnel
