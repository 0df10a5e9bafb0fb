"""A registry's API: tags, digests, labels and removal, with a login and without."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.builder.image.registry import (
    RegistryClient,
    Repository,
    is_build_referenced,
    parse_pushed_build,
    remove_build,
    repository_of,
)
from fnbuild.builder.image.registry_login import find_login
from fnbuild.errors import UnavailableError
from tests import engine as engines
from tests.engine import EngineResources, call, engine_resources, free_port, require_engine

pytestmark = pytest.mark.system

TAG = "fnbuild-" + "0a" * 8
DIGEST = "sha256:" + "1b" * 32


@pytest.fixture
def resources() -> Iterator[EngineResources]:
    with engine_resources(require_engine()) as resources:
        yield resources


def push(
    resources: EngineResources, folder: Path, address: str, *tags: str, word: str = "one"
) -> Repository:
    """Push a tiny image with these tags, and return its repository."""
    content = folder / word
    content.mkdir()
    (content / "word").write_text(word)
    image = resources.build(content, f"FROM scratch\nCOPY word /\nLABEL word={word}\n", word)
    for tag in tags:
        target = resources.image("repository", f"{address}/", tag)
        call(resources.engine, "tag", image, target)
        call(resources.engine, "push", target)
    return repository_of(resources.images[-1])


def test_tags_digests_and_labels_are_read_and_removed(
    resources: EngineResources, tmp_path: Path
) -> None:
    with engines.registry(tmp_path, free_port(), own=True) as own:
        place = push(resources, tmp_path, own.address, TAG, "latest")
        client = RegistryClient(own.address)
        assert sorted(client.tags(place.name)) == [TAG, "latest"]
        assert client.repositories() == [place.name]
        digest = client.digest(place.name, TAG)
        assert digest.startswith("sha256:")
        assert client.labels(place.name, TAG)["word"] == "one"
        facts = resources.engine.inspect(f"{place}:{TAG}")
        assert facts is not None
        assert client.image_id(place.name, digest) == facts.id

        build = parse_pushed_build(f"{place}:{TAG}@{digest}")
        assert build is not None
        # The user's tag refers to it, too, until another image has that tag.
        assert not remove_build(build)
        push(resources, tmp_path, own.address, "latest", word="two")
        assert remove_build(build)
        assert client.tags(place.name) == ["latest"]
        assert not remove_build(build)
        assert client.digest("no/such", "latest") == ""
        assert client.tags("no/such") == []


def test_a_registry_without_deletion_is_no_error(
    resources: EngineResources, tmp_path: Path
) -> None:
    with engines.registry(tmp_path, free_port(), own=True, deletes=False) as own:
        place = push(resources, tmp_path, own.address, TAG)
        client = RegistryClient(own.address)
        assert not client.delete(place.name, client.digest(place.name, TAG))
        assert client.tags(place.name) == [TAG]


def test_the_login_of_the_engine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    with engines.registry(tmp_path, free_port(), login=True) as own:
        with pytest.raises(UnavailableError, match="answered 401") as refused:
            RegistryClient(own.address).repositories()
        assert "docker login" in (refused.value.hint or "")
        pair = base64.b64encode(f"{own.user}:{own.password}".encode()).decode()
        config = {"auths": {own.address: {"auth": pair}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert RegistryClient(own.address).repositories() == []
        assert own.password not in repr(find_login(own.address))


def test_a_login_from_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        """#!/bin/sh
read registry
echo "{\\"Username\\": \\"ann\\", \\"Secret\\": \\"of $registry\\"}"
"""
    )
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "test"}')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    login = find_login("registry.example.com")
    assert login is not None
    assert (login.username, login.password) == ("ann", "of registry.example.com")
    hub = find_login("docker.io")
    assert hub is not None
    assert hub.password == "of https://index.docker.io/v1/"


def test_an_unreachable_registry_is_an_error() -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        RegistryClient(f"127.0.0.1:{free_port()}").tags("any")


def test_the_repository_of_a_reference() -> None:
    assert repository_of("python:3.11") == Repository("docker.io", "library/python")
    assert repository_of("r.example:5000/a/b@" + DIGEST) == Repository("r.example:5000", "a/b")


def test_references_of_builds_are_recognized_and_needed_ones_kept() -> None:
    exact = f"inside:5000/team/faces:{TAG}@{DIGEST}"
    build = parse_pushed_build(exact, "https://outside.example.com/mirror/", "inside:5000/team")
    assert build is not None
    assert str(build) == f"outside.example.com/mirror/faces:{TAG}"
    assert parse_pushed_build(f"inside:5000/faces@{DIGEST}") is None
    assert parse_pushed_build(f"inside:5000/faces:1.2@{DIGEST}") is None
    assert parse_pushed_build("No Name") is None
    assert is_build_referenced(build, {f"other/name@{DIGEST}"})
    assert is_build_referenced(build, {f"inside:5000/team/faces:{TAG}"})
    assert not is_build_referenced(build, {f"inside:5000/team/faces:{TAG}@sha256:{'0' * 64}", ""})
