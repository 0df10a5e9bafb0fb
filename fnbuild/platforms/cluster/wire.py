"""Requests to an API server: authentication, time limits, repeats, and errors in words.

It stands on the official client's configuration and its connection pool; bodies are JSON as they
are, since the client's models are slow, and refuse what another version of the API answers.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import msgspec

from fnbuild import __version__
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms.cluster import faults, unreachable
from fnbuild.platforms.cluster.faults import Request
from fnbuild.platforms.cluster.unreachable import Place
from fnbuild.spec.types import Raw

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_CONNECTIONS = 64

Query = dict[str, str]


class Wire:
    """The way to one API server. Threads may use it at the same time."""

    def __init__(self, configuration: Any, place: Place, plugin: str = ""):
        from kubernetes.client import ApiClient

        configuration.connection_pool_maxsize = _CONNECTIONS
        self.configuration = configuration
        self.place = place
        self._plugin = plugin
        try:
            self._pool = ApiClient(configuration).rest_client.pool_manager
        except (OSError, ValueError) as error:
            raise unreachable.explain(error, place) from error

    def close(self) -> None:
        self._pool.clear()

    def authorization(self) -> str | None:
        """The header that proves who asks, renewed when it is too old; None with certificates."""
        with plugin_words(self._plugin):
            settings = self.configuration.auth_settings()
        for setting in settings.values():
            return str(setting["value"])
        return None

    def json(
        self,
        method: str,
        path: str,
        request: Request,
        *,
        query: Query | None = None,
        body: Raw | None = None,
        content_type: str = JSON,
    ) -> Raw:
        """The answer to a request; errors of fnbuild for all that is no 2xx."""
        status, answer = self.answer(
            method, path, query=query, body=body, content_type=content_type
        )
        if not 200 <= status < 300:
            raise self.refused(status, answer, request)
        try:
            found: Raw = msgspec.json.decode(answer)
        except msgspec.DecodeError:
            raise UnavailableError(
                f"what answers at {self.place} is no Kubernetes API",
                hint="`kubectl config view --minify` shows the server that is asked",
            ) from None
        return found

    def answer(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Raw | None = None,
        content_type: str = JSON,
        patient: bool = True,
    ) -> tuple[int, bytes]:
        """Status and body. Repeated, if `patient`, where nothing can have been done twice."""
        data = None if body is None else msgspec.json.encode(body)
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1 or not patient
            try:
                reply = self._send(method, path, query, data, content_type, _ANSWER_SECONDS)
            except _Cut as error:
                if method != "GET" or last:
                    raise unreachable.explain(error.reason, self.place) from error.reason
                time.sleep(_PAUSE_SECONDS * 2**attempt)
                continue
            if last or not _again(method, reply.status, reply.data):
                return reply.status, reply.data
            time.sleep(_pause(reply.headers.get("Retry-After"), attempt))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def stream(
        self, path: str, request: Request, query: Query, silence: float | None
    ) -> Iterator[Any]:
        """An answer that is read while it comes: urllib3's. `silence` is in seconds; an answer
        that pauses longer ends with its TimeoutError.
        """
        reply = self._opened(path, query, silence)
        try:
            if not 200 <= reply.status < 300:
                raise self.refused(reply.status, reply.read(), request)
            yield reply
        finally:
            reply.close()

    def _opened(self, path: str, query: Query, silence: float | None) -> Any:
        try:
            return self._send("GET", path, query, None, JSON, silence, preload=False)
        except _Cut as error:
            raise unreachable.explain(error.reason, self.place) from error.reason

    def refused(self, status: int, answer: bytes, request: Request) -> FnbuildError:
        """The error that an answer means."""
        if status == 401 and (day := unreachable.expired(self.configuration.cert_file)):
            return faults.UnauthorizedError(
                f"the client certificate for {self.place} ended on {day}",
                hint="fetch the kubeconfig again, or let the cluster's administrator renew it",
            )
        return faults.translate(status, answer, request)

    def _send(
        self,
        method: str,
        path: str,
        query: Query | None,
        data: bytes | None,
        content_type: str,
        seconds: float | None,
        preload: bool = True,
    ) -> Any:
        import urllib3

        headers = {"Accept": JSON, "User-Agent": f"fnbuild/{__version__}"}
        if preload:
            headers["Accept-Encoding"] = "gzip"
        if data is not None:
            headers["Content-Type"] = content_type
        if (proof := self.authorization()) is not None:
            headers["authorization"] = proof
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        limits = urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=limits,
                retries=False,
                redirect=False,
                preload_content=preload,
            )
        except urllib3.exceptions.ProtocolError as error:
            raise _Cut(error) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            proxy = str(self.configuration.proxy or "")
            raise unreachable.explain(error, self.place, proxy) from error


class _Cut(Exception):  # noqa: N818 (it carries the error)
    """A connection ended before the answer was there."""

    def __init__(self, reason: Exception):
        self.reason = reason


def _again(method: str, status: int, answer: bytes) -> bool:
    """Whether to repeat: always when nothing was begun, and reading when the server stumbled."""
    if status == 429:
        return True
    if status == 409:  # a quota was counted at the same time; the object was not made
        details = faults.status_of(answer).get("details") or {}
        return bool(details.get("kind") == "resourcequotas")
    return method == "GET" and status in {500, 502, 503, 504}


def _pause(asked: str | None, attempt: int) -> float:
    seconds = float(asked) if asked and asked.isdigit() else _PAUSE_SECONDS * 2**attempt
    return min(seconds, _LONGEST_PAUSE_SECONDS)


@contextlib.contextmanager
def plugin_words(plugin: str) -> Iterator[None]:
    """Raise what the official client only logs: that the program for credentials failed."""
    if not plugin:
        yield
        return
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    if said:
        raise UnavailableError(
            f"the program {plugin}, which gives the credentials for the cluster, failed",
            hint="run it by hand: perhaps it wants a new login",
            detail="\n".join(said),
        )
