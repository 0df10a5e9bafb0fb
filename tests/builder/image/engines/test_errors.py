"""Errors for the messages of engines and registries."""

from __future__ import annotations

import pytest

from fnbuild.builder.image.engines.errors import clean_output, engine_error
from fnbuild.builder.image.references import is_local_registry, registry_of
from fnbuild.errors import BuildError, UnavailableError

REFERENCE = "registry.example:5000/team/face:1"

# (the engine's output, part of the message, part of the hint)
WORDS = [
    (
        "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
        "docker does not answer: Cannot connect to the Docker daemon at unix:///x.sock.",
        "systemctl start docker",
    ),
    (
        "Got permission denied while trying to connect to the Docker daemon socket at"
        " unix:///var/run/docker.sock: Get http://%2Fvar%2Frun%2Fdocker.sock/v1.24/version: dial"
        " unix /var/run/docker.sock: connect: permission denied",
        "docker denies this user access",
        "usermod -aG docker",
    ),
    (
        "Error response from daemon: write /var/lib/docker/tmp/x: no space left on device",
        "cannot: the disk of docker is full",
        "docker system df",
    ),
    (
        'Get "https://registry.example:5000/v2/": http: server gave HTTP response to HTTPS client',
        "cannot: the registry registry.example:5000 uses plain HTTP",
        "insecure-registries",
    ),
    (
        'Get "https://registry.example:5000/v2/": x509: certificate signed by unknown authority',
        "does not trust the certificate of the registry registry.example:5000",
        "/etc/docker/certs.d/registry.example:5000/ca.crt",
    ),
    (
        "no basic auth credentials",
        "cannot: the registry registry.example:5000 refuses these credentials, or there are none",
        "`docker login registry.example:5000`",
    ),
    (
        "denied: requested access to the resource is denied",
        "refuses these credentials",
        "docker login registry.example:5000",
    ),
    (
        "Error response from daemon: pull access denied for registry.example:5000/team/face,"
        " repository does not exist or may require 'docker login': denied",
        "has no such image, or does not show it to this user",
        "docker login registry.example:5000",
    ),
    (
        "Error response from daemon: manifest for registry.example:5000/team/face:1 not found:"
        " manifest unknown: manifest unknown",
        "has no such image",
        "the tag",
    ),
    (
        'Error response from daemon: Get "https://registry.example:5000/v2/": dial tcp: lookup'
        " registry.example: no such host",
        "the registry registry.example:5000 cannot be reached: Get",
        "network of the machine on which docker runs",
    ),
    (
        "ERROR: BuildKit is enabled but the buildx component is missing or broken.\n"
        "       Install the buildx component to build images with BuildKit:\n"
        "       https://docs.docker.com/go/buildx/\n",
        "this docker has no buildx",
        "DOCKER_BUILDKIT",
    ),
    ("Error: something else", "cannot: something else", ""),
    ("", "cannot: no reason given", ""),
]


@pytest.mark.parametrize(("output", "message", "hint"), WORDS)
def test_messages_of_engines_are_explained_with_a_remedy(output, message, hint):
    error = engine_error("cannot", output, engine="docker", reference=REFERENCE)
    assert message in error.message
    assert hint in (error.hint or "")
    unavailable = message.startswith(("docker does not", "docker denies"))
    assert type(error) is (UnavailableError if unavailable else BuildError)


def test_escapes_and_credentials_are_removed():
    assert clean_output("\x1b[91mGet https://ann:secret@host/x\x1b[0m") == "Get https://***@host/x"


@pytest.mark.parametrize(
    ("reference", "registry", "loopback"),
    [
        ("python:3.11", "docker.io", False),
        ("team/face", "docker.io", False),
        ("localhost/face", "localhost", True),
        ("127.0.0.1:5000/a:1", "127.0.0.1:5000", True),
        ("[::1]:5000/a", "[::1]:5000", True),
        ("registry.example/team/face:1", "registry.example", False),
        ("host:5000/a:t", "host:5000", False),
    ],
)
def test_the_registry_of_a_name(reference, registry, loopback):
    assert registry_of(reference) == registry
    assert is_local_registry(registry) is loopback
