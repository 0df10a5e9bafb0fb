"""Other functions of this machine: where `context.platform.call_function` finds them.

nuclio_sdk asks for nuclio-NAMESPACE-NAME:8080, the name of a container on Nuclio's local platform.
Here such a name means the port on loopback that the function's processor was started with, which is
looked up at every call: a function may come, go, and move to another port meanwhile.
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

    `folder` holds what processors were started with, as NAMESPACE.NAME.REVISION.json.
    """

    def __init__(self, folder: str, namespace: str) -> None:
        self._folder = folder
        self._namespace = namespace

    def __call__(self, address: str, timeout: Optional[float] = None) -> http.client.HTTPConnection:
        """A connection to the address; ConnectionError when no such function runs here."""
        host, _, port = address.partition(":")
        if port == _PORT and host.startswith(_PREFIX):
            found = self._port(host)
            if found:
                return http.client.HTTPConnection("127.0.0.1", found, timeout=timeout)
            own = "%s%s-" % (_PREFIX, self._namespace)
            if host.startswith(own):
                raise ConnectionError(
                    'no function "%s" runs in namespace "%s" on this machine'
                    % (host[len(own) :], self._namespace)
                )
        return http.client.HTTPConnection(address, timeout=timeout)

    def _port(self, host: str) -> int:
        for file in self._files(host):
            try:
                with open(os.path.join(self._folder, file), "rb") as opened:
                    http_listeners = json.loads(opened.read().decode("utf-8"))["listeners"]["http"]
            except (OSError, ValueError, KeyError):
                # Its processor ended in this moment.
                continue
            if isinstance(http_listeners, list):
                http_listeners = http_listeners[0]
            port = http_listeners.get("port")
            if isinstance(port, int) and port:
                return port
        return 0

    def _files(self, host: str) -> List[str]:
        """What belongs to functions of that name, of this namespace and the newest first."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return []
        found: List[Tuple[bool, int, str]] = []
        for file in names:
            stem, _, revision = file[: -len(_END)].rpartition(".")
            namespace, _, name = stem.partition(".")
            if not file.endswith(_END) or not revision.isdigit():
                continue
            if host == "%s%s-%s" % (_PREFIX, namespace, name):
                found.append((namespace == self._namespace, int(revision), file))
        return [file for _, _, file in sorted(found, reverse=True)]
