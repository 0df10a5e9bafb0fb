"""A client for a registry's HTTP API (OCI Distribution): list tags, read and delete manifests.

Engines push and pull the images. This client does what engines have no command for, and uses their
logins.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.build.image import names
from fnbuild.build.image.engines.references import DEFAULT_REGISTRY, is_loopback, registry_of
from fnbuild.build.image.logins import Login, login_of
from fnbuild.errors import UnavailableError

_SECONDS = 20.0
_LARGEST_ANSWER = 8 << 20
_HUB_HOST = "registry-1.docker.io"
_CERTIFICATES = Path("/etc/docker/certs.d")
_MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_NEXT = re.compile(r'<([^>]+)>;\s*rel="?next"?')
_GONE = 404
_UNAUTHORIZED = 401
# The specification has 405 for a registry without deletion; Docker Hub answers with other codes.
_NOT_REMOVED = frozenset({400, 403, 405, 501})


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of a registry, as in `registry.example.com:5000` and `team/faces`."""

    registry: str
    repository: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


def place_of(reference: str) -> Place:
    """Return the repository of an image name, which may have a tag and a digest."""
    name = names.check_reference(reference, "the image")["name"]
    registry = registry_of(name)
    bare = name.removeprefix(f"{registry}/")
    if registry == DEFAULT_REGISTRY and "/" not in bare:
        bare = f"library/{bare}"
    return Place(registry, bare)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Registry:
    """One registry. Every method raises `UnavailableError` if it does not answer or refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        host = _HUB_HOST if name == DEFAULT_REGISTRY else name
        # As engines do by default: plain HTTP only for registries on this machine.
        self._base = f"{'http' if is_loopback(name) else 'https'}://{host}"
        self._authorization: dict[str, str] = {}
        self._opener = _opener(name)

    def digest(self, repository: str, reference: str) -> str:
        """Return the digest of the manifest of a tag or digest, "" if there is none."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{reference}", _MANIFESTS)
        if answer.status == _GONE:
            return ""
        self._expect(answer, repository, 200)
        return answer.headers.get("docker-content-digest", "")

    def image_id(self, repository: str, reference: str) -> str:
        """Return the image id that engines use for a manifest, "" if there is none."""
        manifest = self._manifest(repository, reference)
        return str((manifest.get("config") or {}).get("digest", ""))

    def labels(self, repository: str, reference: str) -> dict[str, str]:
        """Return the labels of a manifest's image; none if it cannot be read."""
        identity = self.image_id(repository, reference)
        if not identity:
            return {}
        answer = self._ask("GET", f"/v2/{repository}/blobs/{identity}", ())
        labels = (answer.json().get("config") or {}).get("Labels") if answer.status == 200 else None
        return labels or {}

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository; none if there is no such repository."""
        return list(self._pages(f"/v2/{repository}/tags/list", "tags", repository))

    def repositories(self) -> list[str]:
        """Return the repositories of the registry, if it lists them."""
        return list(self._pages("/v2/_catalog", "repositories", "its catalog"))

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest with all its tags; return False if the registry does not allow that."""
        answer = self._ask("DELETE", f"/v2/{repository}/manifests/{digest}", ())
        if answer.status in _NOT_REMOVED:
            return False
        self._expect(answer, repository, 200, 202, _GONE)
        return True

    def _manifest(self, repository: str, reference: str) -> dict[str, Any]:
        answer = self._ask("GET", f"/v2/{repository}/manifests/{reference}", _MANIFESTS[:2])
        if answer.status == _GONE:
            return {}
        self._expect(answer, repository, 200)
        return answer.json()

    def _pages(self, path: str, key: str, what: str) -> Iterator[str]:
        while path:
            answer = self._ask("GET", path, ())
            if answer.status == _GONE:
                return
            self._expect(answer, what, 200)
            yield from map(str, answer.json().get(key) or ())
            following = _NEXT.search(answer.headers.get("link", ""))
            path = ""
            if following is not None:
                parts = urllib.parse.urlsplit(following[1])
                path = f"{parts.path}?{parts.query}"

    def _expect(self, answer: _Answer, what: str, *statuses: int) -> None:
        if answer.status in statuses:
            return
        refused = answer.status in (_UNAUTHORIZED, 403)
        raise UnavailableError(
            f"the registry {self.name} answered {answer.status} to a request for {what}",
            hint=f"log in: `docker login {self.name}`" if refused else None,
        )

    def _ask(self, method: str, path: str, accept: tuple[str, ...]) -> _Answer:
        # A token is valid for one repository and one kind of access.
        scope = f"{method} {path.split('/manifests/', maxsplit=1)[0]}"
        answer = self._send(method, path, accept, self._authorization.get(scope, ""))
        if answer.status != _UNAUTHORIZED:
            return answer
        authorization = self._authorize(answer.headers.get("www-authenticate", ""))
        if not authorization:
            return answer
        self._authorization[scope] = authorization
        return self._send(method, path, accept, authorization)

    def _authorize(self, challenge: str) -> str:
        """Return the value of an Authorization header that answers a challenge, "" for none."""
        if not self._base.startswith("https:") and not is_loopback(self.name):
            return ""  # a password does not travel in plain text
        login = login_of(self.name)
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return login.basic if login is not None else ""
        parts = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in parts:
            return ""
        token = self._token(parts, login)
        return f"Bearer {token}" if token else ""

    def _token(self, parts: Mapping[str, str], login: Login | None) -> str:
        realm = parts["realm"]
        if not realm.startswith("https:") and not is_loopback(self.name):
            return ""
        query = {key: parts[key] for key in ("service", "scope") if key in parts}
        if login is not None and login.identity:
            form = {**query, "grant_type": "refresh_token", "refresh_token": login.identity}
            body = urllib.parse.urlencode({**form, "client_id": "fnbuild"}).encode()
            request = urllib.request.Request(realm, data=body)  # noqa: S310 - see above
        else:
            joint = "&" if "?" in realm else "?"
            address = f"{realm}{joint}{urllib.parse.urlencode(query)}"
            request = urllib.request.Request(address)  # noqa: S310 - see above
            if login is not None:
                request.add_unredirected_header("Authorization", login.basic)
        answer = self._open(request).json()
        return str(answer.get("token") or answer.get("access_token") or "")

    def _send(self, method: str, path: str, accept: tuple[str, ...], authorization: str) -> _Answer:
        request = urllib.request.Request(self._base + path, method=method)  # noqa: S310
        if accept:
            request.add_header("Accept", ", ".join(accept))
        if authorization:
            # A redirect to the storage of blobs must not carry it.
            request.add_unredirected_header("Authorization", authorization)
        return self._open(request)

    def _open(self, request: urllib.request.Request) -> _Answer:
        try:
            with self._opener.open(request, timeout=_SECONDS) as reply:
                body = reply.read(_LARGEST_ANSWER)
                return _Answer(reply.status, _lower(reply.headers), body)
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, _lower(error.headers), error.read(_LARGEST_ANSWER))
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise UnavailableError(f"the registry {self.name} does not answer: {reason}") from error


def _opener(registry: str) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    for file in (_CERTIFICATES / registry).glob("*.crt"):
        context.load_verify_locations(file)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if is_loopback(registry):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}
