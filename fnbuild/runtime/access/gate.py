"""The gate of a function: requests that may not pass are answered before they become events.

It checks the hosts and origins of requests on loopback ports, and credentials.
"""

import abc
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from ..config import ConfigFileError
from ..http.messages import DEFERRED, Deferred, HttpRequest, Reply
from ..http.parser import RequestHead
from ..http.server import HttpServer
from ..http.sites import AllowedHosts, is_same_origin
from ..triggers.cors import CorsPolicy
from .authenticator import AccessRefusal, Authenticator, Pending, Verdict
from .credentials import TOKEN_HEADER, Credentials
from .settings import AccessSettings, read_access

_TOKEN_KEY = TOKEN_HEADER.lower()
_MAX_KNOWN_HOSTS = 64
Answer = Union[Reply, Deferred]


class GateOwner(abc.ABC):
    """The part of a trigger that a gate protects."""

    @abc.abstractmethod
    def serve(self, request: HttpRequest) -> Answer:
        """Answer a request that may pass."""

    @abc.abstractmethod
    def is_health_check(self, request: HttpRequest) -> bool:
        """Return True for a health check, which needs no credentials."""


class AccessGate:
    """The checks of one http trigger, its owner."""

    def __init__(
        self,
        authenticator: Optional[Authenticator],
        hosts: Optional[AllowedHosts],
        cors: Optional[CorsPolicy],
        server: HttpServer,
        owner: GateOwner,
    ) -> None:
        self._authenticator = authenticator
        self._hosts = hosts
        self._known_hosts: Set[str] = set()
        self._cors = cors
        self._server = server
        self._owner = owner

    def check(self, request: HttpRequest) -> Optional[Answer]:
        """Return None for a request that may pass, else its answer.

        With DEFERRED, the request is served or answered later.
        """
        headers = request.head.lookup()
        if self._hosts is not None:
            refusal = self._check_site(headers)
            if refusal is not None:
                return self._refuse(request, refusal)
        if self._authenticator is None or self._owner.is_health_check(request):
            return None
        verdict = self._authenticator.check(
            headers, partial(_client_address, request), partial(self._on_verdict, request)
        )
        if verdict is None:
            if _TOKEN_KEY in headers:
                request.head = _without_token(request.head)
            return None
        if isinstance(verdict, Pending):
            return DEFERRED
        return self._refuse(request, verdict)

    def _check_site(self, headers: Dict[str, str]) -> Optional[AccessRefusal]:
        host = headers.get("host")
        if host is not None and host not in self._known_hosts:
            assert self._hosts is not None
            if not self._hosts.allow(host):
                reason = "the function is not known as %r; the annotation fnbuild.io/allowed-hosts"
                return AccessRefusal(421, (reason + " adds names") % host[:100])
            if len(self._known_hosts) < _MAX_KNOWN_HOSTS:
                self._known_hosts.add(host)
        if self._cors is not None:
            # It has checked the origin.
            return None
        origin = headers.get("origin")
        if origin is None:
            # Browsers do not send the origin of an image or a script.
            if headers.get("sec-fetch-site") != "cross-site":
                return None
            if headers.get("sec-fetch-mode") == "navigate":
                return None
        elif host is not None and is_same_origin(origin, host):
            return None
        reason = "a page of %r may not call this function; cors of its http trigger allows pages"
        return AccessRefusal(403, reason % (origin or "another site")[:100])

    def _on_verdict(self, request: HttpRequest, verdict: Verdict) -> None:
        """Serve or answer a request whose check took time."""
        if request.connection.closed:
            request.answer(None)
            return
        answer: Any
        if verdict is not None:
            answer = self._refuse(request, verdict)
        else:
            try:
                answer = self._owner.serve(request)
            except Exception as error:  # noqa: BLE001 - the client gets a reply in any case
                answer = self._server.application_failed(request, error)
        if isinstance(answer, Reply):
            request.answer(answer)

    def _refuse(self, request: HttpRequest, refusal: AccessRefusal) -> Reply:
        if self._server.on_refusal is not None:
            self._server.on_refusal(refusal.status, refusal.reason)
        headers: List[Tuple[str, str]] = []
        if refusal.challenge:
            headers.append(("WWW-Authenticate", refusal.challenge))
        if refusal.retry_after:
            headers.append(("Retry-After", str(refusal.retry_after)))
        if self._cors is not None:
            headers += self._cors.headers(request, headers)
        return Reply.json(refusal.status, {"error": refusal.reason}, headers)


def _client_address(request: HttpRequest) -> str:
    try:
        name = request.connection.stream.sock.getpeername()
    except OSError:
        return ""
    return str(name[0]) if isinstance(name, tuple) else "gRPC"


def _without_token(head: RequestHead) -> RequestHead:
    """Return the head without fnbuild's own token, which handlers must not see."""
    fields = tuple(field for field in head.fields if field[0].lower() != _TOKEN_KEY)
    copy = RequestHead((head.method, head.target, head.version, head.path, head.query), fields)
    copy.length, copy.keep_alive = head.length, head.keep_alive
    copy.expects_continue = head.expects_continue
    return copy


class GateOptions(NamedTuple):
    """The parts of a processor's configuration from which a gate is made.

    `attributes` are those of the trigger. `allowed_hosts` are names besides this machine's own, or
    None without checks of Host and Origin. `folder` has the code.
    """

    name: str
    attributes: Dict[str, Any]
    credentials: Credentials
    allowed_hosts: Optional[List[str]]
    folder: str


def create_gate(
    options: GateOptions, cors: Optional[CorsPolicy], server: HttpServer, owner: GateOwner
) -> Optional[AccessGate]:
    """Return the gate, or None if everything may pass; raise ConfigFileError if it cannot work."""
    try:
        settings = read_access(options.attributes)
        authenticator = _authenticator(settings, options, server)
    except ValueError as problem:
        raise ConfigFileError("authentication: %s" % problem) from None
    if authenticator is None and options.allowed_hosts is None:
        return None
    hosts = None if options.allowed_hosts is None else AllowedHosts(options.allowed_hosts)
    return AccessGate(authenticator, hosts, cors, server, owner)


def _authenticator(
    settings: AccessSettings, options: GateOptions, server: HttpServer
) -> Optional[Authenticator]:
    if settings.mode == "none":
        return None
    if settings.mode == "browser":
        raise ValueError("the mode browser needs a sign-in page, which only Nuclio's platform has")
    return Authenticator(settings, options.credentials, options.name, options.folder, server.loop)
