"""Models in S3: signatures, the layout of KServe, and errors."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.s3 import s3_server
from tests.runtime.storage.conftest import Fetch
from tests.runtime.storage.test_fetch import files_in
from tests.storage_servers import S3_KEYS, FileServer, put_s3

WEIGHTS = os.urandom(100_000)


@pytest.mark.parametrize("token", ["", "t0ken=="])
@pytest.mark.parametrize(
    "variables", [{}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "AWS_REGION": "eu-west-1"}]
)
def test_signatures_are_those_of_botocore(
    variables: dict[str, str], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    from botocore import auth, awsrequest, credentials

    keys = S3_KEYS | ({"AWS_SESSION_TOKEN": token} if token else {})
    url = s3_server(variables | keys).url("models", "a b/ü+~.pt", (("prefix", "x/y z"),))
    query = parse_qs(urlsplit(url).query)
    moment = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: moment)
    account = credentials.Credentials(*S3_KEYS.values(), token or None)
    region = variables.get("AWS_REGION", "us-east-1")
    signer = auth.S3SigV4QueryAuth(account, "s3", region, expires=3600)
    request = awsrequest.AWSRequest("GET", f"{url.partition('?')[0]}?prefix=x%2Fy%20z")
    signer.add_auth(request)
    assert parse_qs(urlsplit(request.url).query) == query


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://bucket.s3.us-east-1.amazonaws.com/a/b"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/a/b"),
        ({"AWS_ENDPOINT_URL": "http://minio:9000"}, "http://minio:9000/bucket/a/b"),
        ({"S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0"}, "http://minio:9000/bucket/a/b"),
        ({"S3_ENDPOINT": "minio:9000"}, "https://minio:9000/bucket/a/b"),
        (
            {"S3_ENDPOINT": "s3.example.com", "S3_USER_VIRTUAL_BUCKET": "1"},
            "https://bucket.s3.example.com/a/b",
        ),
        ({"S3_USE_ACCELERATE": "true"}, "https://bucket.s3-accelerate.amazonaws.com/a/b"),
        (S3_KEYS | {"awsAnonymousCredential": "True"}, ""),
    ],
)
def test_variables_of_kserve_select_the_server(variables: dict[str, str], url: str) -> None:
    url = url or "https://bucket.s3.us-east-1.amazonaws.com/a/b"
    assert s3_server(variables).url("bucket", "a/b") == url


def test_a_bucket_with_dots_has_no_name_of_a_certificate() -> None:
    url = s3_server({}).url("models.example.com", "a")
    assert url == "https://s3.us-east-1.amazonaws.com/models.example.com/a"


def test_credentials_are_not_shown() -> None:
    assert "s3cret" not in repr(s3_server(S3_KEYS))


def test_one_key_without_the_other() -> None:
    with pytest.raises(StorageError, match="not both"):
        s3_server({"AWS_ACCESS_KEY_ID": "AKIA"})


@pytest.fixture
def variables(s3: str) -> dict[str, str]:
    return S3_KEYS | {"AWS_ENDPOINT_URL": s3}


def test_a_folder_and_an_object_are_stored_as_kserve_stores_them(
    s3: str, variables: dict[str, str], models: Path, fetch: Fetch
) -> None:
    put_s3(s3, "models")
    for key in ("a/1/model.pt", "a/ü +%.json", "ab/other.pt", "a/folder/"):
        put_s3(s3, f"models/{key}", b"" if key.endswith("/") else WEIGHTS)
    fetch("s3://models/a/", **variables)
    assert files_in(models) == {"1/model.pt": WEIGHTS, "ü +%.json": WEIGHTS}
    fetch("s3://models/a/1/model.pt", **variables)
    assert files_in(models) == {"model.pt": WEIGHTS}


def test_lists_of_several_pages(
    s3: str, variables: dict[str, str], models: Path, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_s3(s3, "pages")
    for number in range(5):
        put_s3(s3, f"pages/m/{number}", b"x")
    from fnbuild.runtime.storage import s3 as module

    url = module.S3Server.url

    def small_pages(self, bucket, key="", query=()):
        return url(self, bucket, key, (*query, ("max-keys", "2")) if query else query)

    monkeypatch.setattr(module.S3Server, "url", small_pages)
    fetch("s3://pages/m", **variables)
    assert sorted(files_in(models)) == list("01234")


def test_a_changed_object_is_downloaded_again(
    s3: str, variables: dict[str, str], models: Path, fetch: Fetch
) -> None:
    put_s3(s3, "versions")
    for content in (b"first", b"other"):
        put_s3(s3, "versions/m/x", content)
        fetch("s3://versions/m", **variables)
        assert files_in(models) == {"x": content}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://absent-bucket/a", "the bucket s3://absent-bucket does not exist"),
        ("s3://empty-bucket/a", "there are no files at s3://empty-bucket/a"),
    ],
)
def test_missing_buckets_and_paths(
    uri: str, message: str, s3: str, variables: dict[str, str], fetch: Fetch
) -> None:
    put_s3(s3, "empty-bucket")
    with pytest.raises(StorageError, match=re.escape(message)):
        fetch(uri, **variables)


@pytest.mark.parametrize(
    ("answer", "keys", "message"),
    [
        ((403, {}, b""), {}, "AWS_ACCESS_KEY_ID .*: without them, only public"),
        ((403, {}, b""), S3_KEYS, "check the keys in AWS_ACCESS_KEY_ID"),
        (
            (400, {"x-amz-bucket-region": "eu-west-1"}, b""),
            S3_KEYS,
            "is in the region eu-west-1, not us-east-1",
        ),
        ((200, {}, b"<html>"), S3_KEYS, "does not answer as S3 does"),
    ],
)
def test_refusals_have_a_remedy(
    answer: tuple, keys: dict[str, str], message: str, web: FileServer, fetch: Fetch
) -> None:
    class AnyPath(dict):
        def get(self, _path, _default=None):
            return answer

    web.documents = AnyPath()
    with pytest.raises(StorageError, match=message) as raised:
        fetch("s3://models/a", AWS_ENDPOINT_URL=web.url, **keys)
    assert "s3cret" not in str(raised.value)
