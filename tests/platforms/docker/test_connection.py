"""The engine of a Docker context: the program `docker` and the platform use the same one."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnbuild.builder.image.engines.docker import Docker
from fnbuild.errors import UnavailableError
from fnbuild.platforms.docker import DockerPlatform
from tests.engine import call, require_engine, require_program

pytestmark = pytest.mark.system

SOCKET = "unix:///var/run/docker.sock"


@dataclass
class Contexts:
    """An empty configuration folder of Docker; the docker program creates contexts in it."""

    folder: Path
    host: str

    def create(self, name: str, **endpoint: str) -> None:
        options = ",".join(f"{key}={value}" for key, value in endpoint.items())
        call(require_engine(), "context", "create", name, "--docker", options)
        assert list(self.folder.glob("contexts/meta/*/meta.json"))


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contexts:
    require_engine()
    host = os.environ.get("DOCKER_HOST") or SOCKET
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Contexts(tmp_path / ".docker", host)


def check_same_engine(host: str) -> None:
    """Check that the platform and the docker program use the engine at the address."""
    engine = DockerPlatform().engine
    try:
        assert engine.host == host
        identity = engine.info["ID"]
    finally:
        engine.close()
    builds = Docker()
    builds.check()
    assert call(builds, "info", "--format", "{{.ID}}").strip() == identity


def test_a_context_needs_no_configuration_file(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts.create("tests", host=contexts.host)
    (contexts.folder / "config.json").unlink(missing_ok=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "tests")
    check_same_engine(contexts.host)


def test_the_current_context_is_used(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = contexts.folder.parent / "elsewhere"
    monkeypatch.setenv("DOCKER_CONFIG", str(elsewhere))
    contexts.folder = elsewhere
    contexts.create("tests", host=contexts.host)
    contexts.create("other", host="tcp://127.0.0.1:1")
    call(require_engine(), "context", "use", "tests")
    assert json.loads((elsewhere / "config.json").read_text())["currentContext"] == "tests"
    check_same_engine(contexts.host)
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    with pytest.raises(UnavailableError, match="refused"):
        DockerPlatform().deployments("nuclio")


def test_an_address_overrides_a_context(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts.create("other", host="tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    monkeypatch.setenv("DOCKER_HOST", contexts.host)
    check_same_engine(contexts.host)


def test_the_default_context_is_used(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    if contexts.host != SOCKET:
        pytest.skip(f"the engine is not at {SOCKET}")
    contexts.folder.mkdir()
    (contexts.folder / "config.json").write_text("{")
    check_same_engine(SOCKET)
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    check_same_engine(SOCKET)


@pytest.mark.parametrize("other_exists", [False, True])
def test_a_missing_context_is_an_error(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch, other_exists: bool
) -> None:
    if other_exists:
        contexts.create("tests", host=contexts.host)
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    with pytest.raises(UnavailableError, match="no Docker context no-such-context"):
        DockerPlatform().deployments("nuclio")


def test_an_unreadable_context_is_an_error(
    contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts.create("tests", host=contexts.host)
    [file] = contexts.folder.glob("contexts/meta/*/meta.json")
    file.write_text("[]")
    monkeypatch.setenv("DOCKER_CONTEXT", "tests")
    with pytest.raises(UnavailableError, match="tests cannot be read") as failure:
        DockerPlatform().deployments("nuclio")
    assert str(file) in (failure.value.hint or "")


@pytest.fixture
def tls_engine(contexts: Contexts, tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """The engine behind TLS: address, certificate, key. Server and client share the certificate."""
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    subject = ("-subj", "/CN=tests", "-addext", "subjectAltName=IP:127.0.0.1")
    options = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)
    files = ("-keyout", str(key), "-out", str(certificate))
    command = [require_program("openssl"), *options, *files]
    subprocess.run(command, check=True, capture_output=True)
    if not contexts.host.startswith("unix://"):
        pytest.skip("the engine has no socket on this machine")
    settings = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    settings.verify_mode = ssl.CERT_REQUIRED
    settings.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=serve,
            args=(listener, settings, contexts.host.removeprefix("unix://")),
            daemon=True,
        ).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", certificate, key
        listener.shutdown(socket.SHUT_RDWR)


def serve(listener: socket.socket, settings: ssl.SSLContext, engine: str) -> None:
    with suppress(OSError):
        while True:
            accepted = listener.accept()[0]
            threading.Thread(
                target=forward_request, args=(accepted, settings, engine), daemon=True
            ).start()


def forward_request(accepted: socket.socket, settings: ssl.SSLContext, engine: str) -> None:
    """Forward one request and its response, and close the connection after it."""
    with (
        suppress(OSError),
        closing(accepted),
        settings.wrap_socket(accepted, server_side=True) as client,
        socket.socket(socket.AF_UNIX) as server,
    ):
        server.connect(engine)
        server.sendall(client.recv(1 << 16).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        while piece := server.recv(1 << 16):
            client.sendall(piece)


def test_a_context_may_use_tls(
    contexts: Contexts, tls_engine: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, certificate, key = tls_engine
    contexts.create("tests", host=host, ca=str(certificate), cert=str(certificate), key=str(key))
    (contexts.folder / "config.json").unlink(missing_ok=True)
    monkeypatch.setenv("DOCKER_CONTEXT", "tests")
    check_same_engine(host)
    [stored_certificate] = contexts.folder.glob("contexts/tls/*/docker/cert.pem")
    stored_certificate.unlink()
    with pytest.raises(UnavailableError, match="no container engine answers"):
        DockerPlatform().deployments("nuclio")
