"""Models in Google Cloud Storage: the layout of KServe, credentials, and errors."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from fnbuild.runtime.storage import gcs
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.web import WebClient
from tests.runtime.storage.conftest import Fetch
from tests.runtime.storage.test_fetch import files_in
from tests.storage_servers import FileServer, put_google

WEIGHTS = os.urandom(100_000)


def test_a_folder_and_an_object_are_stored_as_kserve_stores_them(
    google: str, models: Path, fetch: Fetch
) -> None:
    put_google(google, "my_models")  # an underscore is valid
    for name in ("a/1/model.pt", "a/x y.json", "ab/other.pt"):
        put_google(google, "my_models", name, WEIGHTS)
    fetch("gs://my_models/a", STORAGE_EMULATOR_HOST=google)
    assert files_in(models) == {"1/model.pt": WEIGHTS, "x y.json": WEIGHTS}
    fetch("gs://my_models/a/1/model.pt", STORAGE_EMULATOR_HOST=google.partition("//")[2])
    assert files_in(models) == {"model.pt": WEIGHTS}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://absent-bucket/a", "the bucket gs://absent-bucket does not exist"),
        ("gs://empty-bucket/a", "there are no files at gs://empty-bucket/a"),
    ],
)
def test_missing_buckets_and_paths(uri: str, message: str, google: str, fetch: Fetch) -> None:
    put_google(google, "empty-bucket")
    with pytest.raises(StorageError, match=message):
        fetch(uri, STORAGE_EMULATOR_HOST=google)


@pytest.fixture
def account(web: FileServer, tmp_path: Path) -> tuple[Path, object]:
    """The key file of a service account whose token comes from the web server, and its key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    values = {
        "type": "service_account",
        "client_email": "reader@example.com",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "token_uri": f"{web.url}/token",
    }
    file = tmp_path / "key.json"
    file.write_text(json.dumps(values))
    return file, key.public_key()


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_signatures_are_valid(form: str) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = rsa.generate_private_key(65537, 2048)
    private_format = getattr(serialization.PrivateFormat, form)
    pem = key.private_bytes(
        serialization.Encoding.PEM, private_format, serialization.NoEncryption()
    )
    signature = gcs._sign_rs256(pem.decode(), b"text")
    key.public_key().verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_service_accounts_get_a_token(
    web: FileServer, account: tuple, models: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = account
    forms: list[bytes] = []
    read = WebClient.read

    def recorded(self, url, headers=None, body=None):
        if body is not None:
            forms.append(body)
            return b'{"access_token": "t0ken", "expires_in": 3600}'
        return read(self, url, headers, body)

    monkeypatch.setattr(WebClient, "read", recorded)
    item = {"name": "a/m.pt", "size": "5", "generation": "7", "metadata": {"sha256": ""}}
    documents = {
        "/storage/v1/b/models/o?prefix=a": json.dumps({"items": [item]}).encode(),
        "/download/storage/v1/b/models/o/a%2Fm.pt?alt=media&generation=7": b"model",
    }
    web.documents = {path: (200, {}, body) for path, body in documents.items()}
    variables = {
        "STORAGE_EMULATOR_HOST": web.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(file),
    }
    fetch("gs://models/a", **variables)
    assert files_in(models) == {"m.pt": b"model"}
    assert {headers["Authorization"] for _, _, headers in web.requests} == {"Bearer t0ken"}
    (form,) = forms
    claims = parse_qs(form.decode())["assertion"][0].split(".")[1]
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert decoded["iss"] == "reader@example.com"
    assert decoded["aud"] == f"{web.url}/token"
    assert decoded["scope"].endswith("/devstorage.read_only")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no JSON", "it is not JSON"),
        ('{"type": "external_account"}', "its type is 'external_account'"),
        ('{"type": "service_account", "private_key": "s3cret"}', "its private_key is damaged"),
        (
            '{"type": "authorized_user", "token_uri": "http://example.com"}',
            "its token_uri is not an https address",
        ),
        (
            '{"type": "authorized_user", "token_uri": "http://127.0.0.1:x@example.com"}',
            "its token_uri is not an https address",
        ),
        (None, "No such file"),
    ],
)
def test_credentials_that_cannot_be_used(
    text: str | None, reason: str, tmp_path: Path, google: str, fetch: Fetch
) -> None:
    file = tmp_path / "credentials.json"
    if text is not None:
        file.write_text(text)
    variables = {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "STORAGE_EMULATOR_HOST": google}
    with pytest.raises(StorageError, match=reason) as raised:
        fetch("gs://models/a", **variables)
    assert str(file) in raised.value.message
    assert "s3cret" not in str(raised.value)


def test_private_buckets_need_credentials(web: FileServer, fetch: Fetch) -> None:
    web.documents["/storage/v1/b/models/o?prefix=a"] = (401, {}, b"")
    with pytest.raises(StorageError, match="gs://models cannot be read: 401") as raised:
        fetch("gs://models/a", STORAGE_EMULATOR_HOST=web.url)
    assert "GOOGLE_APPLICATION_CREDENTIALS names a file" in raised.value.hint
