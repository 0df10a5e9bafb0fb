"""Servers of storage, without credentials of the user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import storage_servers
from tests.storage_servers import S3_KEYS


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    with storage_servers.s3_server() as url:
        yield url


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a server that the environment selects."""
    for name, value in (S3_KEYS | {"AWS_ENDPOINT_URL": s3_url}).items():
        monkeypatch.setenv(name, value)
    return s3_url


@pytest.fixture(scope="module")
def google_url() -> Iterator[str]:
    with storage_servers.google_server() as url:
        yield url


@pytest.fixture
def google(google_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google_url)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    return google_url
