"""Objects in S3: their URLs, and code from a server with S3's API."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from fnbuild.builder.sources.code_entry import open_code
from fnbuild.builder.sources.download import parse_address as of_url
from fnbuild.builder.sources.s3 import object_url
from fnbuild.errors import InputError
from fnbuild.function.types import Build
from tests import storage_servers

ATTRIBUTES = {"s3Bucket": "models", "s3ItemKey": "a b/x.zip", "s3Region": "eu-west-1"}
KEYS = {"s3AccessKeyId": "AKIA", "s3SecretAccessKey": "s3cret/+", "s3SessionToken": "t0ken=="}


def test_public_objects() -> None:
    assert object_url(ATTRIBUTES) == "https://models.s3.eu-west-1.amazonaws.com/a%20b/x.zip"


def test_secrets_are_neither_in_the_url_nor_shown() -> None:
    url = object_url(ATTRIBUTES | KEYS)
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert len(query["X-Amz-Signature"][0]) == 64
    assert query["X-Amz-Security-Token"] == ["t0ken=="]
    assert query["X-Amz-Credential"][0].endswith("/eu-west-1/s3/aws4_request")
    assert "s3cret" not in url
    assert of_url(url).display_url == "https://models.s3.eu-west-1.amazonaws.com/a%20b/x.zip?…"


@pytest.mark.parametrize(
    "wrong",
    [
        {"s3Bucket": "evil.com/x?"}, {"s3Bucket": ""}, {"s3ItemKey": ""}, {"s3Region": "a/b"},
        {"s3AccessKeyId": "AKIA"}, {"s3SecretAccessKey": "s3cret"},
    ],
)  # fmt: skip
def test_invalid_objects(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError) as raised:
        object_url(ATTRIBUTES | wrong)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_signed_urls_name_the_region(region: str) -> None:
    url = object_url({**ATTRIBUTES, **KEYS, "s3Region": region})
    assert urlsplit(url).netloc == f"models.s3.{region}.amazonaws.com"


@pytest.fixture
def s3_server() -> Iterator[str]:
    with storage_servers.s3_server() as url:
        yield url


def test_code_from_a_private_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    code = b"def handler(context, event):\n    return 'ok'\n"
    headers = {"Content-Type": "text/plain"}
    for path, body in (("models", b""), ("models/a%20b/x.py", code)):
        url = f"{s3_server}/{path}"
        request = urllib.request.Request(url, data=body, headers=headers, method="PUT")
        urllib.request.urlopen(request).close()
    attributes = {**ATTRIBUTES, **KEYS, "s3ItemKey": "a b/x.py", "s3Region": "us-east-1"}
    messages: list[str] = []
    build = Build(code_entry_type="s3", code_entry_attributes=attributes)
    with open_code(None, build=build, progress=messages.append) as source:
        assert Path(str(source.path)).read_bytes() == code
    assert messages == [f"downloading {s3_server}/models/a%20b/x.py?…"]
    attributes["s3ItemKey"] = "missing.py"
    with pytest.raises(InputError, match=r"missing\.py\?… cannot be downloaded: 404") as raised:
        open_code(None, build=build).__enter__()
    assert "AKIA" not in str(raised.value)
