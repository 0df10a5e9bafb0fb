"""A session cannot be made from the database alone."""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fnbuild.dashboard.auth.tokens import SESSION_KEY_FILE, Tokens, read_or_create_signing_key
from fnbuild.store import Store

ENDS = int(time.time()) + 1000
MESSAGE = f"fnbuild session write {ENDS}".encode()


def forged(key: bytes) -> str:
    return f"write.{ENDS}.{hmac.new(key, MESSAGE, hashlib.sha256).hexdigest()}"


def columns(path: Path) -> list[str]:
    """Return every text in the database file."""
    with sqlite3.connect(path) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master")]
        rows = [row for table in tables if "sqlite" not in table and table in ("tokens", "schema")
                for row in connection.execute(f"SELECT * FROM {table}")]  # fmt: skip
    connection.close()
    return [str(value) for row in rows for value in row]


def test_a_session_cannot_be_made_from_the_database(tmp_path: Path) -> None:
    with Store(tmp_path / "fnbuild.db") as store:
        tokens = Tokens(store)
        assert tokens.create_if_missing("write")
        assert tokens.session_role(tokens.create_session("write")) == "write"
        texts = columns(tmp_path / "fnbuild.db")
        assert any(len(text) == 64 for text in texts)
        for text in texts:
            assert tokens.session_role(forged(text.encode())) == "none"


def test_a_session_cannot_be_made_from_the_digest_of_a_configured_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "from-a-secret-0123456789"
    monkeypatch.setenv("FNBUILD_DASHBOARD_TOKEN", token)
    digest = hashlib.sha256(token.encode()).hexdigest()
    with Store(tmp_path / "a" / "fnbuild.db") as first, Store(tmp_path / "b" / "fnbuild.db") as two:
        here, there = Tokens(first), Tokens(two)
        session = here.create_session("write")
        assert there.session_role(session) == "write"  # replicas with one token share sessions
        assert here.session_role(forged(digest.encode())) == "none"
    assert not (tmp_path / "a" / SESSION_KEY_FILE).exists()


def test_sessions_outlive_the_dashboard_and_end_with_the_token(tmp_path: Path) -> None:
    with Store(tmp_path / "fnbuild.db") as store:
        first = Tokens(store)
        first.create_if_missing("write")
        session = first.create_session("write")
        assert Tokens(store).session_role(session) == "write"
        first.renew("write")
        assert Tokens(store).session_role(session) == "none"


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    key = read_or_create_signing_key(tmp_path)
    path = tmp_path / SESSION_KEY_FILE
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_create_signing_key(tmp_path) == key
    path.chmod(0o644)  # another user may have read it
    assert read_or_create_signing_key(tmp_path) != key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"short")
    os.chmod(path, 0o600)
    assert len(read_or_create_signing_key(tmp_path)) == 32
    assert [entry.name for entry in tmp_path.iterdir()] == [SESSION_KEY_FILE]


def test_concurrent_creators_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: read_or_create_signing_key(tmp_path), range(8)))) == 1
