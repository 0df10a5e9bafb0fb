"""URLs of objects in S3."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from fnbuild.builder.sources.download import parse_address as of_url
from fnbuild.builder.sources.s3 import S3Credentials, object_url, sign_url
from fnbuild.errors import InputError

GIVEN = {"s3Bucket": "models", "s3ItemKey": "a b/x.zip", "s3Region": "eu-west-1"}
KEYS = {"s3AccessKeyId": "AKIA", "s3SecretAccessKey": "s3cret/+", "s3SessionToken": "t0ken=="}


def test_what_everybody_may_read() -> None:
    assert object_url(GIVEN) == "https://models.s3.eu-west-1.amazonaws.com/a%20b/x.zip"


def test_the_example_in_the_description_of_the_signature() -> None:
    keys = S3Credentials(
        "us-east-1", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    )
    url = sign_url(
        "examplebucket.s3.amazonaws.com",
        "test.txt",
        keys,
        datetime(2013, 5, 24, tzinfo=UTC),
        86400,
    )
    assert url.endswith(
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_secrets_are_not_in_it_and_not_shown() -> None:
    url = object_url(GIVEN | KEYS)
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Security-Token"] == ["t0ken=="]
    assert query["X-Amz-Credential"][0].endswith("/eu-west-1/s3/aws4_request")
    assert "s3cret" not in url
    assert of_url(url).display_url == "https://models.s3.eu-west-1.amazonaws.com/a%20b/x.zip?…"
    assert "s3cret" not in repr(S3Credentials("r", "a", "s3cret", "s3cret"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"s3Bucket": "evil.com/x?"}, {"s3Bucket": ""}, {"s3ItemKey": ""}, {"s3Region": "a/b"},
        {"s3AccessKeyId": "AKIA"}, {"s3SecretAccessKey": "s3cret"},
    ],
)  # fmt: skip
def test_what_is_no_object(wrong: dict[str, str]) -> None:
    with pytest.raises(InputError) as raised:
        object_url(GIVEN | wrong)
    assert "s3cret" not in str(raised.value)
