"""TLS settings, proxy and credentials of a connection to a Kubernetes API server.

Tokens, passwords and client certificates are read here. Credential plugins are run by the official
client, which takes more than a second to import and is imported for them alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fnbuild.errors import UnavailableError
from fnbuild.function.types import Raw
from fnbuild.hosts import is_loopback
from fnbuild.platforms.kubeclient import kubeconfig
from fnbuild.platforms.kubeclient.kubeconfig import KubeContext

_TOKEN_SECONDS = 60.0
"""The interval in which token files are read again (client-go, transport/token_source.go)."""

Authorization = Callable[[], str | None]
"""Return the value of the Authorization header; None without one."""


class _SharedTlsContext(ssl.SSLContext):
    """A TLS context for connections in several threads.

    urllib3 sets the ALPN protocols again for each connection. OpenSSL then frees the list that a
    connection in another thread may be copying, and the server rejects that connection's garbled
    ClientHello with the alert `unexpected_message`. Here the list is set once.
    """

    _protocols: list[str] | None = None

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        protocols = list(alpn_protocols)
        if protocols != self._protocols:
            super().set_alpn_protocols(protocols)
            self._protocols = protocols


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """The means to connect to one API server.

    `tls` is None for a server without TLS. `tls_name` is the name to expect in its certificate if
    it differs from the host of `url`. `proxy` is a URL, or empty. `certificate` is the client's own
    as PEM, or empty.
    """

    url: str
    authorization: Authorization
    tls: ssl.SSLContext | None = None
    tls_name: str = ""
    proxy: str = ""
    certificate: bytes = b""

    def connection_pool(self, size: int) -> Any:
        """Return a urllib3 pool of at most `size` connections that are kept open."""
        import urllib3

        options: dict[str, Any] = {"maxsize": size}
        if self.tls is not None:
            options["ssl_context"] = self.tls
            if self.tls.verify_mode == ssl.CERT_NONE:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if self.tls_name:
            options["server_hostname"] = self.tls_name
        if not self.proxy:
            return urllib3.PoolManager(**options)
        user = _proxy_user(self.proxy)
        headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
        return urllib3.ProxyManager(self.proxy, proxy_headers=headers, **options)

    def websocket_options(self) -> dict[str, Any]:
        """Return the options of `websocket.create_connection` for TLS and the proxy."""
        tls: dict[str, Any] = {"context": self.tls} if self.tls is not None else {}
        if self.tls_name:
            tls["server_hostname"] = self.tls_name
        options: dict[str, Any] = {"sslopt": tls}
        # Without a proxy's name, websocket-client looks for one in the environment.
        proxy = urlsplit(self.proxy or "http://none:1")
        options.update(
            proxy_type="http",
            http_proxy_host=proxy.hostname,
            http_proxy_port=proxy.port or 80,
            http_no_proxy=[] if self.proxy else [urlsplit(self.url).hostname],
        )
        if user := _proxy_user(self.proxy):
            options["http_proxy_auth"] = tuple(user.split(":", 1))
        return options


def of_context(context: KubeContext) -> ServerAccess:
    """Return the access that a context of a kubeconfig describes.

    Raises `UnavailableError`, or OSError for a file that cannot be read. Starts a credential plugin
    if the context has one.
    """
    url = str(context.cluster["server"]).rstrip("/")
    if context.plugin or "auth-provider" in context.user:
        authorization, certificate, key = _plugin_credentials(context)
    else:
        authorization = _authorization(context.user)
        certificate = _pem(context, context.user, "client-certificate")
        key = _pem(context, context.user, "client-key")
    return ServerAccess(
        url,
        authorization,
        _tls(context, url, certificate, key),
        str(context.cluster.get("tls-server-name") or ""),
        _proxy(url, context.cluster),
        certificate,
    )


def of_service_account(folder: Path, url: str) -> ServerAccess:
    """Return the access of a pod's service account, whose files are in `folder`.

    Raises OSError for files that cannot be read, and ssl.SSLError for a wrong certificate.
    """
    tls = _SharedTlsContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(str(folder / "ca.crt"))
    authorization = _TokenFile(folder / "token")
    authorization()
    return ServerAccess(url, authorization, tls, proxy=_proxy(url, {}))


@dataclass(slots=True)
class _TokenFile:
    """The token in a file, which is read again after a while: tokens of service accounts expire."""

    path: Path
    _header: str = ""
    _read_at: float = 0.0

    def __call__(self) -> str:
        if not self._header or time.monotonic() - self._read_at > _TOKEN_SECONDS:
            self._header = f"Bearer {self.path.read_text().strip()}"
            self._read_at = time.monotonic()
        return self._header


def _authorization(user: Raw) -> Authorization:
    if user.get("tokenFile"):
        return _TokenFile(Path(user["tokenFile"]))
    if user.get("token"):
        header = f"Bearer {user['token']}"
    elif user.get("username"):
        login = f"{user['username']}:{user.get('password') or ''}"
        header = f"Basic {base64.b64encode(login.encode()).decode()}"
    else:
        return lambda: None
    return lambda: header


def _pem(context: KubeContext, entry: Raw, key: str) -> bytes:
    """Return a certificate or key: the content of KEY-data, or of the file that KEY names."""
    if data := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(str(data), validate=True)
        except binascii.Error:
            raise _unusable_error(context, f"{key}-data is not valid base64") from None
    return Path(entry[key]).read_bytes() if entry.get(key) else b""


def _tls(context: KubeContext, url: str, certificate: bytes, key: bytes) -> ssl.SSLContext | None:
    if urlsplit(url).scheme != "https":
        return None
    tls = _SharedTlsContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = _pem(context, context.cluster, "certificate-authority")
    if context.cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    elif authority:
        try:
            tls.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise _unusable_error(
                context, "certificate-authority has no PEM certificates"
            ) from None
    else:
        tls.load_default_certs()
    if certificate:
        try:
            _load_certificate(tls, certificate, key)
        except ssl.SSLError:
            reason = "client-certificate and client-key are not a PEM certificate and its key"
            raise _unusable_error(context, reason) from None
    return tls


def _load_certificate(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # OpenSSL reads client certificates from files only. mkstemp makes one for this user alone.
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate + b"\n" + key)
        # The password keeps OpenSSL from asking for one on the terminal.
        tls.load_cert_chain(name, password="")
    finally:
        os.unlink(name)


def _plugin_credentials(context: KubeContext) -> tuple[Authorization, bytes, bytes]:
    """Return the authorization, certificate and key that the official client gets from a plugin."""
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config, load_kube_config_from_dict

    if (missing := kubeconfig.missing_plugin_error(context)) is not None:
        raise missing
    configuration = Configuration()
    with _raising_plugin_errors(context.plugin):
        try:
            if "auth-provider" in context.user:
                # Its tokens are renewed in the file that they are from.
                files = os.pathsep.join(map(str, context.all_files))
                load_kube_config(files, context.name, configuration)
            else:
                load_kube_config_from_dict(context.as_config(), context.name, configuration)
        except Exception as error:  # noqa: BLE001 (any type, and its text may have keys)
            raise _unusable_error(context, type(error).__name__) from None

    def authorization() -> str | None:
        with _raising_plugin_errors(context.plugin):
            settings = configuration.auth_settings()
        headers: list[Any] = list(settings.values())
        return str(headers[0]["value"]) if headers else None

    # A plugin may give a certificate instead of a token.
    certificate, key = (
        Path(name).read_bytes() if name else b""
        for name in (configuration.cert_file, configuration.key_file)
    )
    return authorization, certificate, key


@contextlib.contextmanager
def _raising_plugin_errors(plugin: str) -> Iterator[None]:
    """Raise an error if the credential plugin fails, which the official client only logs."""
    if not plugin:
        yield
        return
    messages: list[str] = []
    thread = threading.get_ident()

    def keep(record: logging.LogRecord) -> None:
        if record.module == "kube_config" and record.thread == thread:
            messages.append(record.getMessage())

    handler = logging.Handler(logging.ERROR)
    handler.emit = keep  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    if messages:
        raise UnavailableError(
            f"the program {plugin}, which gives the credentials for the cluster, failed",
            hint="run it by hand: perhaps it wants a new login",
            detail="\n".join(messages),
        )


def _unusable_error(context: KubeContext, reason: str) -> UnavailableError:
    return UnavailableError(
        f"the kubeconfig {context.file} cannot be used for context {context.name}: {reason}",
        hint="`kubectl config view` shows it; does `kubectl version` work with it?",
    )


def _proxy(url: str, cluster: Raw) -> str:
    """Return the proxy for a server: that of the kubeconfig, or that of the environment."""
    if "proxy-url" in cluster:
        return str(cluster["proxy-url"] or "")
    server = urlsplit(url)
    # Like Go's programs, and unlike curl, reach this machine itself without a proxy.
    if is_loopback(server.hostname or ""):
        return ""
    proxy = urllib.request.getproxies_environment().get(server.scheme, "")
    if not proxy:
        return ""
    from requests.utils import should_bypass_proxies

    return "" if should_bypass_proxies(url, no_proxy=None) else proxy


def _proxy_user(proxy: str) -> str:
    """Return `user:password` of a proxy's URL, or an empty string."""
    parts = urlsplit(proxy)
    if not parts.username:
        return ""
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"
