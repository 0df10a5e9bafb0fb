"""Code from git repositories, with the installed git."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.sources import git
from fnbuild.builder.sources.code_entry import open_code
from fnbuild.errors import BuildError, InputError, UnavailableError
from fnbuild.function.types import Build
from tests.builder.sources.conftest import CONFIG, MAIN

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git program here"),
]


def run(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: the tag v1 and the branch dev are at the first, main at the second."""
    folder = tmp_path / "repos" / "face.git"
    (folder / "fn").mkdir(parents=True)
    run(folder, "init", "--quiet", "-b", "main")
    (folder / "fn" / "function.yaml").write_bytes(CONFIG)
    (folder / "fn" / "main.py").write_bytes(MAIN)
    run(folder, "add", ".")
    run(folder, "commit", "--quiet", "-m", "one")
    run(folder, "tag", "v1")
    run(folder, "branch", "dev")
    (folder / "fn" / "main.py").write_bytes(MAIN + b"# two\n")
    run(folder, "commit", "--quiet", "-am", "two")
    return folder


@pytest.fixture
def served(repository: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the repository by HTTP with authentication; yield its URL and the requested paths."""
    requested: list[str] = []
    wanted = "Basic " + base64.b64encode(b"me:p0rcelain").decode()

    with _server(repository, requested, wanted) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}/face.git", requested


@contextmanager
def _server(
    repository: Path, requested: list[str], wanted: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[ThreadingHTTPServer]:
    """Serve repositories by http; `wanted` is the required header."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            if wanted and self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic realm=x")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            environment = {
                **os.environ, "GIT_PROJECT_ROOT": str(repository.parent),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "me",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }  # fmt: skip
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                env=environment,
                capture_output=True,
                check=True,
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(lines.pop("Status", "200").split()[0]))
            for name, value in lines.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            # The handshake of one client does not delay the others.
            if tls is None:
                super().finish_request(request, client_address)
                return
            with tls.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # ignore clients without a certificate

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Tls:
    """A server that requires client certificates, and the files of a client."""

    url: str
    requested: list[str]
    authority: str
    certificate: str
    key: str
    other_key: str

    def attributes(self, **changes: str) -> dict[str, str]:
        return {
            "branch": "main",
            "clientCert": self.certificate,
            "clientKey": self.key,
            "caBundle": self.authority,
            **changes,
        }


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an authority with its certificates for a server and a client, and another key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program here")
    folder = tmp_path_factory.mktemp("keys")
    elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2")
    _openssl(
        folder, "req", "-x509", *elliptic, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"
    )
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key")
    uses = {
        "server": "subjectAltName=IP:127.0.0.1",
        "client": "keyUsage=critical,digitalSignature",
    }
    for name, more in uses.items():
        _openssl(
            folder, "req", "-x509", *elliptic, *signed, "-keyout", f"{name}.key",
            "-out", f"{name}.pem", "-subj", f"/CN={name}", "-addext", more,
            "-addext", "basicConstraints=critical,CA:false",
        )  # fmt: skip
    _openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "other.key")
    return folder


@pytest.fixture
def tls(repository: Path, keys: Path) -> Iterator[Tls]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "server.pem", keys / "server.key")
    context.load_verify_locations(keys / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    requested: list[str] = []
    names = ("ca.pem", "client.pem", "client.key", "other.key")
    with _server(repository, requested, tls=context) as server:
        url = f"https://127.0.0.1:{server.server_address[1]}/face.git"
        yield Tls(url, requested, *((keys / name).read_text() for name in names))


def entry(url: str, **attributes: str) -> Build:
    return Build(path=url, code_entry_type="git", code_entry_attributes=attributes)


@pytest.mark.parametrize(
    ("attributes", "second"),
    [
        ({"branch": "main"}, True), ({"branch": "dev"}, False), ({"tag": "v1"}, False),
        ({"reference": "refs/heads/main"}, True), ({"branch": "dev", "tag": "none"}, False),
    ],
)  # fmt: skip
def test_a_commit(repository: Path, attributes: dict[str, str], second: bool) -> None:
    build = entry(f"file://{repository}", workDir="fn", **attributes)
    with open_code(None, build=build) as opened:
        assert opened.path is not None
        assert opened.path.parent.name == "face"
        assert (b"two" in (opened.path / "main.py").read_bytes()) is second
        assert not (opened.path.parent / ".git").exists()
        place = opened.path
    assert not place.exists()


def test_a_commit_by_its_hash(repository: Path) -> None:
    run(repository, "config", "uploadpack.allowReachableSHA1InWant", "true")
    first = run(repository, "rev-parse", "v1")
    with open_code(None, build=entry(f"file://{repository}", reference=first)) as opened:
        assert opened.path is not None
        # The repository has one folder with everything, which is the function.
        assert opened.path.name == "fn"


def test_a_missing_repository_branch_or_folder(repository: Path) -> None:
    with (
        pytest.raises(BuildError, match="none") as raised,
        open_code(None, build=entry(f"file://{repository}", branch="none")),
    ):
        pass
    assert raised.value.hint
    with (
        pytest.raises(BuildError, match="cannot fetch"),
        open_code(None, build=entry(f"file://{repository}-no", branch="main")),
    ):
        pass


@pytest.mark.parametrize(
    "attributes",
    [{}, {"branch": "--upload-pack=x"}, {"tag": "a b"}, {"reference": "a:b"}, {"branch": "a..b"}],
)
def test_invalid_references(repository: Path, attributes: dict[str, str]) -> None:
    with (
        pytest.raises(InputError),
        open_code(None, build=entry(f"file://{repository}", **attributes)),
    ):
        pass


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% /tmp/x", "http://example.com/x", "/etc", "--upload-pack=x", ""]
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(InputError), open_code(None, build=entry(url, branch="main")):
        pass


def test_credentials(
    served: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    original = subprocess.run

    def watched(command: list[str], **options: Any) -> Any:
        if "http-backend" not in command:
            seen.append(command)
        return original(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    url, requested = served
    git.fetch_commit(
        url, {"branch": "main", "username": "me", "password": "p0rcelain"}, tmp_path / "a", print
    )
    assert (tmp_path / "a/fn/main.py").is_file()
    inside = url.replace("//", "//me:p0rcelain@")
    messages: list[str] = []
    git.fetch_commit(inside, {"branch": "dev"}, tmp_path / "b", messages.append)
    assert (tmp_path / "b/fn/main.py").is_file()
    assert seen
    assert "p0rcelain" not in f"{seen}{messages}{requested}"


@pytest.mark.parametrize("attributes", [{}, {"username": "me", "password": "wr0ng"}])
def test_wrong_credentials(
    served: tuple[str, list[str]], tmp_path: Path, attributes: dict[str, str]
) -> None:
    with pytest.raises(BuildError) as raised:
        git.fetch_commit(served[0], {"branch": "main", **attributes}, tmp_path / "a", print)
    error = raised.value
    assert "username" in str(error.hint)
    assert "wr0ng" not in f"{error}{error.detail}{error.hint}"


def test_the_query_of_a_url_is_not_shown(tmp_path: Path) -> None:
    messages: list[str] = []
    url = "http://127.0.0.1:1/x.git?token=TOPSECRETPW"
    with pytest.raises(BuildError) as raised:
        git.fetch_commit(url, {"branch": "main"}, tmp_path / "a", messages.append)
    error = raised.value
    assert "127.0.0.1:1/x.git" in f"{error}"
    assert "TOPSECRETPW" not in f"{messages}{error}{error.detail}{error.hint}"


def test_hooks_and_settings_of_the_user_are_ignored(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    hook = hooks / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (home / ".gitconfig").write_text(f"[core]\nhooksPath = {hooks}\nautocrlf = true\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    git.fetch_commit(f"file://{repository}", {"branch": "main"}, tmp_path / "a", print)
    assert b"\r" not in (tmp_path / "a/fn/main.py").read_bytes()
    assert not (tmp_path / "ran").exists()


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UnavailableError) as raised:
        git.fetch_commit("https://example.com/x", {"branch": "main"}, tmp_path / "a", print)
    assert raised.value.hint


@pytest.mark.parametrize("form", ["text", "base64"])
def test_a_client_certificate_is_sent(
    tls: Tls, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    seen = _watched_git(tmp_path, monkeypatch)
    attributes = tls.attributes()
    if form == "base64":
        names = ("clientCert", "clientKey", "caBundle")
        attributes |= {name: _base64(attributes[name]) for name in names}
        attributes["CABundle"] = attributes.pop("caBundle")
    messages: list[str] = []
    with open_code(
        None, build=entry(tls.url, workDir="fn", **attributes), progress=messages.append
    ) as opened:
        assert opened.path is not None
        assert (opened.path / "main.py").read_bytes() == MAIN + b"# two\n"
        left = [path for path in temporary.rglob("*") if path.is_file()]
        assert not any(b"PRIVATE KEY" in path.read_bytes() for path in left)
    assert tls.requested
    assert not list(temporary.iterdir())
    secret = "".join(tls.key.splitlines()[1:-1])[:40]
    for text in (*messages, seen.read_text()):
        assert "PRIVATE" not in text
        assert secret not in text.replace("\\n", "")
        assert _base64(tls.key)[:80] not in text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _watched_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a git in front of the real one that records its arguments and its environment."""
    programs, seen = tmp_path / "programs", tmp_path / "seen"
    programs.mkdir()
    program = programs / "git"
    real = shutil.which("git")
    program.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >>{seen}\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return seen


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"clientCert": "", "clientKey": ""}, "cannot fetch", "clientCert and .clientKey"),
        ({"caBundle": ""}, "cannot fetch", "caBundle"),
        ({"clientKey": ""}, "has clientCert, and clientKey is missing", "add it again"),
        ({"clientKey": "OTHER"}, "key values mismatch", "the key of that certificate"),
        ({"clientKey": "nonsense"}, "clientKey is not PEM", "-----BEGIN"),
        ({"caBundle": "-----BEGIN CERTIFICATE-----\nx"}, "caBundle has no valid", "-----BEGIN"),
    ],
)
def test_invalid_certificates_are_reported(
    tls: Tls, changes: dict[str, str], message: str, hint: str, tmp_path: Path
) -> None:
    changes = {name: value.replace("OTHER", tls.other_key) for name, value in changes.items()}
    with pytest.raises((BuildError, InputError), match=message) as failure:
        git.fetch_commit(tls.url, tls.attributes(**changes), tmp_path / "code", lambda _: None)
    assert hint in (failure.value.hint or "")
    assert "PRIVATE" not in f"{failure.value} {failure.value.detail}"
    assert tls.requested == []


def test_certificates_are_only_for_https(repository: Path, tls: Tls, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need an https address"):
        git.fetch_commit(
            f"file://{repository}", tls.attributes(), tmp_path / "code", lambda _: None
        )
