"""A client for a registry's HTTP API (OCI Distribution), and the builds that fnbuild pushed there.

Engines push and pull the images. This client does what engines have no command for: list tags,
read and delete manifests. It uses the engines' logins.

A registry deletes manifests, not tags, and all tags of a manifest are deleted with it. So a build
is removed only if no other tag, which may be a user's own, refers to it.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.builder.image import references
from fnbuild.builder.image.references import DEFAULT_REGISTRY, is_local_registry, registry_of
from fnbuild.builder.image.registry_login import Login, find_login
from fnbuild.errors import InputError, UnavailableError

_REQUEST_SECONDS = 20.0
_MAX_RESPONSE_BYTES = 8 << 20
_HUB_HOST = "registry-1.docker.io"
_CERTIFICATES = Path("/etc/docker/certs.d")
_MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="?next"?')
_NOT_FOUND = 404
_UNAUTHORIZED = 401
# The specification has 405 for a registry without deletion; Docker Hub answers with other codes.
_DELETION_REFUSED = frozenset({400, 403, 405, 501})


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry, such as `team/faces` in `registry.example.com:5000`."""

    registry: str
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


def repository_of(reference: str) -> Repository:
    """Return the repository of an image name, which may have a tag and a digest."""
    name = references.parse_reference(reference, "the image")["name"]
    registry = registry_of(name)
    bare = name.removeprefix(f"{registry}/")
    if registry == DEFAULT_REGISTRY and "/" not in bare:
        bare = f"library/{bare}"
    return Repository(registry, bare)


@dataclass(frozen=True, slots=True)
class _RegistryResponse:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class RegistryClient:
    """One registry. Every method raises `UnavailableError` if it does not answer or refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        host = _HUB_HOST if name == DEFAULT_REGISTRY else name
        # As engines do by default: plain HTTP only for registries on this machine.
        self._base = f"{'http' if is_local_registry(name) else 'https'}://{host}"
        self._authorization: dict[str, str] = {}
        self._opener = _opener(name)

    def digest(self, repository: str, reference: str) -> str:
        """Return the digest of the manifest of a tag or digest, "" if there is none."""
        response = self._request("HEAD", f"/v2/{repository}/manifests/{reference}", _MANIFEST_TYPES)
        if response.status == _NOT_FOUND:
            return ""
        self._expect(response, repository, 200)
        return response.headers.get("docker-content-digest", "")

    def image_id(self, repository: str, reference: str) -> str:
        """Return the image id that engines use for a manifest, "" if there is none."""
        manifest = self._manifest(repository, reference)
        return str((manifest.get("config") or {}).get("digest", ""))

    def labels(self, repository: str, reference: str) -> dict[str, str]:
        """Return the labels of a manifest's image; none if it cannot be read."""
        identity = self.image_id(repository, reference)
        if not identity:
            return {}
        response = self._request("GET", f"/v2/{repository}/blobs/{identity}", ())
        labels = (
            (response.json().get("config") or {}).get("Labels") if response.status == 200 else None
        )
        return labels or {}

    def tags(self, repository: str) -> list[str]:
        """Return all tags of a repository; none if there is no such repository."""
        return list(self._pages(f"/v2/{repository}/tags/list", "tags", repository))

    def repositories(self) -> list[str]:
        """Return the repositories of the registry, if it lists them."""
        return list(self._pages("/v2/_catalog", "repositories", "its catalog"))

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest with all its tags; return False if the registry does not allow that."""
        response = self._request("DELETE", f"/v2/{repository}/manifests/{digest}", ())
        if response.status in _DELETION_REFUSED:
            return False
        self._expect(response, repository, 200, 202, _NOT_FOUND)
        return True

    def _manifest(self, repository: str, reference: str) -> dict[str, Any]:
        response = self._request(
            "GET", f"/v2/{repository}/manifests/{reference}", _MANIFEST_TYPES[:2]
        )
        if response.status == _NOT_FOUND:
            return {}
        self._expect(response, repository, 200)
        return response.json()

    def _pages(self, path: str, key: str, subject: str) -> Iterator[str]:
        while path:
            response = self._request("GET", path, ())
            if response.status == _NOT_FOUND:
                return
            self._expect(response, subject, 200)
            yield from map(str, response.json().get(key) or ())
            next_page = _NEXT_PAGE.search(response.headers.get("link", ""))
            path = ""
            if next_page is not None:
                parts = urllib.parse.urlsplit(next_page[1])
                path = f"{parts.path}?{parts.query}"

    def _expect(self, response: _RegistryResponse, subject: str, *statuses: int) -> None:
        if response.status in statuses:
            return
        refused = response.status in (_UNAUTHORIZED, 403)
        raise UnavailableError(
            f"the registry {self.name} answered {response.status} to a request for {subject}",
            hint=f"log in: `docker login {self.name}`" if refused else None,
        )

    def _request(self, method: str, path: str, accept: tuple[str, ...]) -> _RegistryResponse:
        # A token is valid for one repository and one kind of access.
        scope = f"{method} {path.split('/manifests/', maxsplit=1)[0]}"
        response = self._send(method, path, accept, self._authorization.get(scope, ""))
        if response.status != _UNAUTHORIZED:
            return response
        authorization = self._authorize(response.headers.get("www-authenticate", ""))
        if not authorization:
            return response
        self._authorization[scope] = authorization
        return self._send(method, path, accept, authorization)

    def _authorize(self, challenge: str) -> str:
        """Return the value of an Authorization header that answers a challenge, "" for none."""
        if not self._base.startswith("https:") and not is_local_registry(self.name):
            return ""  # passwords are not sent in plain text
        login = find_login(self.name)
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
        if not realm.startswith("https:") and not is_local_registry(self.name):
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
        response = self._open(request).json()
        return str(response.get("token") or response.get("access_token") or "")

    def _send(
        self, method: str, path: str, accept: tuple[str, ...], authorization: str
    ) -> _RegistryResponse:
        request = urllib.request.Request(self._base + path, method=method)  # noqa: S310
        if accept:
            request.add_header("Accept", ", ".join(accept))
        if authorization:
            # A redirect to the storage of blobs must not carry it.
            request.add_unredirected_header("Authorization", authorization)
        return self._open(request)

    def _open(self, request: urllib.request.Request) -> _RegistryResponse:
        try:
            with self._opener.open(request, timeout=_REQUEST_SECONDS) as reply:
                body = reply.read(_MAX_RESPONSE_BYTES)
                return _RegistryResponse(reply.status, _lower(reply.headers), body)
        except urllib.error.HTTPError as error:
            with error:
                return _RegistryResponse(
                    error.code, _lower(error.headers), error.read(_MAX_RESPONSE_BYTES)
                )
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise UnavailableError(f"the registry {self.name} does not answer: {reason}") from error


def _opener(registry: str) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context()
    for file in (_CERTIFICATES / registry).glob("*.crt"):
        context.load_verify_locations(file)
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if is_local_registry(registry):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class PushedBuild:
    """A build in a registry: its repository, tag and digest."""

    repository: Repository
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"


def parse_pushed_build(
    reference: str, registry: str = "", run_registry: str = ""
) -> PushedBuild | None:
    """Return the build of an exact reference; None if it is not a pushed build of fnbuild.

    `reference` may have the registry's name on the nodes, `run_registry`. The build has the name
    under which this machine pushed it, with `registry`.
    """
    try:
        parts = references.parse_reference(reference, "the image")
        tag, digest, name = parts["tag"] or "", parts["digest"] or "", parts["name"]
        if not digest or not references.is_build_tag(tag):
            return None
        if registry and run_registry:
            name = references.with_registry(
                registry, references.without_registry(run_registry, name)
            )
        return PushedBuild(repository_of(name), tag, digest)
    except InputError:
        return None


def is_build_referenced(build: PushedBuild, references: Collection[str]) -> bool:
    """Return True if one of the references is to the build, by its digest or its tag alone."""
    return any(
        reference.endswith(f"@{build.digest}")
        or ("@" not in reference and reference.endswith(f":{build.tag}"))
        for reference in references
    )


def remove_build(build: PushedBuild) -> bool:
    """Remove a build from its registry; return False if it stays.

    It stays if another tag refers to it as well, and in a registry that does not allow deletion.
    Raises `UnavailableError` if the registry does not answer.
    """
    registry, repository = RegistryClient(build.repository.registry), build.repository.name
    if registry.digest(repository, build.tag) != build.digest:
        return False
    other_tags = (tag for tag in registry.tags(repository) if tag != build.tag)
    if any(registry.digest(repository, tag) == build.digest for tag in other_tags):
        return False
    return registry.delete(repository, build.digest)
