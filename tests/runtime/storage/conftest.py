"""Servers of storage, and a folder for models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fnbuild.runtime.storage.fetch import FetchedModel, fetch_model, model_request
from tests import storage_servers
from tests.storage_servers import FileServer

Fetch = Callable[..., FetchedModel]


@pytest.fixture
def web() -> Iterator[FileServer]:
    with storage_servers.file_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with storage_servers.s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with storage_servers.google_server() as url:
        yield url


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def fetch(models: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Download the model at a URI; variables of the environment are keyword arguments."""
    monkeypatch.setattr("fnbuild.runtime.storage.fetch._FIRST_DELAY", 0.01)

    def run(uri: str, messages: list[str] | None = None, **variables: str) -> FetchedModel:
        environment = {"STORAGE_URI": uri, **variables}
        request = model_request(environment, str(models))
        return fetch_model(request, [].append if messages is None else messages.append)

    return run
