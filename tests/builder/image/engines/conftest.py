"""Registries and credentials that the engines' tests share."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import Registry, free_port, registry

SignIn = Callable[..., None]


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("plain"), free_port()) as running:
        yield running


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that requires a user name and a password."""
    with registry(tmp_path_factory.mktemp("login"), free_port(), login=True) as running:
        yield running


@pytest.fixture
def sign_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login_registry: Registry) -> SignIn:
    """Select a folder of Docker's configuration; without a password it has no credentials."""

    def sign_in(password: str = login_registry.password) -> None:
        pair = base64.b64encode(f"{login_registry.user}:{password}".encode()).decode()
        auths = {login_registry.address: {"auth": pair}} if password else {}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    return sign_in
