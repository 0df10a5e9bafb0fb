"""Connections of `context.platform.call_function` to other functions of this machine.

nuclio_sdk connects to nuclio-NAMESPACE-NAME:8080, the name of a container on Nuclio's local
platform. Here that name stands for the loopback port of the function's processor. It is looked up
at each call, since functions start, end and change their ports.
"""

import http.client
import json
import os
from typing import List, Optional, Tuple

_PREFIX = "nuclio-"
_PORT = "8080"
_END = ".json"


class LocalConnectionProvider:
    """A connection provider for nuclio_sdk.Platform.

    `folder` contains the configurations of processors as NAMESPACE.NAME.REVISION.json.
    """

    def __init__(self, folder: str, namespace: str) -> None:
        self._folder = folder
        self._namespace = namespace

    def __call__(self, address: str, timeout: Optional[float] = None) -> http.client.HTTPConnection:
        """Return a connection to the address; ConnectionError if the function does not run here."""
        host, _, port = address.partition(":")
        if port == _PORT and host.startswith(_PREFIX):
            local_port = self._port(host)
            if local_port:
                return http.client.HTTPConnection("127.0.0.1", local_port, timeout=timeout)
            own_prefix = "%s%s-" % (_PREFIX, self._namespace)
            if host.startswith(own_prefix):
                raise ConnectionError(
                    'no function "%s" runs in namespace "%s" on this machine'
                    % (host[len(own_prefix) :], self._namespace)
                )
        return http.client.HTTPConnection(address, timeout=timeout)

    def _port(self, host: str) -> int:
        for file in self._files(host):
            try:
                with open(os.path.join(self._folder, file), "rb") as opened:
                    http_listeners = json.loads(opened.read().decode("utf-8"))["listeners"]["http"]
            except (OSError, ValueError, KeyError):
                # Its processor has just ended.
                continue
            if isinstance(http_listeners, list):
                http_listeners = http_listeners[0]
            port = http_listeners.get("port")
            if isinstance(port, int) and port:
                return port
        return 0

    def _files(self, host: str) -> List[str]:
        """Return the files of functions with that name: this namespace and new revisions first."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        files: List[Tuple[bool, int, str]] = []
        for file in names:
            stem, _, revision = file[: -len(_END)].rpartition(".")
            namespace, _, name = stem.partition(".")
            if not file.endswith(_END) or not revision.isdigit():
                continue
            if host == "%s%s-%s" % (_PREFIX, namespace, name):
                files.append((namespace == self._namespace, int(revision), file))
        return [file for _, _, file in sorted(files, reverse=True)]
