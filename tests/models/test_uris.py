"""Storage URIs: one typed value for each scheme, one clear error for each mistake."""

from __future__ import annotations

import pytest

from fnbuild.errors import InputError
from fnbuild.models.uris import check_model_folder, parse_storage_uri
from fnbuild.runtime.storage.uris import StorageUri


@pytest.mark.parametrize(
    ("text", "uri", "canonical"),
    [
        ("pvc://models", StorageUri("pvc", "models", ""), "pvc://models"),
        ("pvc://models/a/b", StorageUri("pvc", "models", "a/b"), "pvc://models/a/b"),
        ("pvc://models/a/", StorageUri("pvc", "models", "a"), "pvc://models/a"),
        ("pvc://models/", StorageUri("pvc", "models", ""), "pvc://models"),
        ("s3://bucket/a/model.pt", StorageUri("s3", "bucket", "a/model.pt"), ""),
        ("s3://bucket/a/", StorageUri("s3", "bucket", "a"), "s3://bucket/a"),
        ("S3://bucket", StorageUri("s3", "bucket", ""), "s3://bucket"),
        ("gs://my_bucket/dir", StorageUri("gs", "my_bucket", "dir"), ""),
        ("gs://models.example.com", StorageUri("gs", "models.example.com", ""), ""),
        (
            "https://example.com:8443/a/m.zip?sig=1",
            StorageUri("https", "example.com:8443", "a/m.zip", query="sig=1"),
            "",
        ),
        ("http://[::1]/m", StorageUri("http", "[::1]", "m"), ""),
        ("hf://owner/model", StorageUri("hf", "owner/model", ""), ""),
        ("hf://owner/model:v1", StorageUri("hf", "owner/model", "", "v1"), ""),
        ("oci://ghcr.io/a/b:1", StorageUri("oci", "ghcr.io/a/b:1", ""), ""),
        ("oci+native://a/b", StorageUri("oci+native", "a/b", ""), ""),
        ("file:///srv/m/", StorageUri("file", "", "/srv/m"), "file:///srv/m"),
        ("file:///srv/a%20b", StorageUri("file", "", "/srv/a%20b"), ""),
        ("/srv/a b%20?", StorageUri("file", "", "/srv/a b%20?"), "file:///srv/a b%20?"),
        ("/mnt/models", StorageUri("file", "", "/mnt/models"), "file:///mnt/models"),
    ],
)
def test_each_scheme_has_one_value(text: str, uri: StorageUri, canonical: str) -> None:
    assert parse_storage_uri(text) == uri
    assert str(uri) == (canonical or text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is not a storage URI", "pvc://claim/folder"),
        ("models/a", "is not a storage URI", "s3://"),
        ("ftp://host/m", "the scheme 'ftp' is not supported", "use one of: pvc://, s3://"),
        ("hdfs://a/b", "the scheme 'hdfs' is not supported", "hf://"),
        ("s3:bucket/a", "'//' is missing", "s3://bucket/folder"),
        ("pvc://", "it names no claim", "pvc://claim/folder"),
        ("pvc:///dir", "it names no claim", "pvc://claim/folder"),
        ("pvc://My_Claim/a", "'My_Claim' is not the name of a claim", "lower-case"),
        ("pvc://claim/../x", "the segment '..'", "pvc://claim/folder"),
        ("pvc://claim/a//b", "the segment ''", "pvc://claim/folder"),
        ("s3://", "it names no bucket", "s3://bucket/folder"),
        ("s3://under_score/a", "'under_score' is not the name of a bucket", "of S3"),
        ("s3://UPPER/a", "'UPPER' is not the name of a bucket", "lower-case"),
        ("s3://key:secret@bucket/a", "it cannot contain credentials or a port", "s3://"),
        ("s3://bucket/a?b", "it cannot have a query or a fragment", "s3://"),
        ("gs://ab/x", "'ab' is not the name of a bucket", "'_'"),
        ("gs://_x_/a", "is not the name of a bucket", "'_'"),
        ("s3://bucket/a b", "a blank or a control character", "s3://"),
        ("https://", "it names no host", "https://host"),
        ("https://example.com", "it names no file", "https://host"),
        ("https://example.com/dir/", "it names no file", "https://host"),
        ("https://example.com/m#x", "it cannot have a fragment", "https://host"),
        ("https://example.com:port/m", "it is not a URL", "https://host"),
        ("hf://model", "not exactly an owner and a model", "hf://owner/model"),
        ("hf://owner/model/file", "not exactly an owner and a model", "hf://owner/model:revision"),
        ("hf://owner/", "not exactly an owner and a model", "hf://owner/model"),
        ("hf://owner/model:", "'' is not a revision", "hf://owner/model:revision"),
        ("oci://", "'' is not the name of an image", "oci://registry/image:tag"),
        ("file://srv/m", "its path is not absolute", "file:///folder"),
        ("file:///srv/../etc", "the segment '..'", "file:///folder"),
    ],
)
def test_each_mistake_has_one_error(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_storage_uri(text)
    assert message in raised.value.message
    assert hint in str(raised.value.hint)


def test_errors_do_not_repeat_passwords() -> None:
    with pytest.raises(InputError) as raised:
        parse_storage_uri("https://ann:s3cret@example.com/m.zip")
    assert "s3cret" not in raised.value.line
    assert "create storage-secret" in raised.value.line
    with pytest.raises(InputError) as raised:
        parse_storage_uri("s3://key:s3cret@bucket/a")
    assert "s3cret" not in raised.value.line
    with pytest.raises(InputError) as raised:
        parse_storage_uri("https://example.com/m.zip?signature=s3cret#part")
    assert "https://example.com/m.zip?…#part" in raised.value.line


def test_a_tree_in_the_root_of_a_bucket_is_refused_for_pytorch() -> None:
    for text in ("gs://bucket", "s3://bucket/"):
        with pytest.raises(InputError, match="is the root of a bucket") as raised:
            check_model_folder(parse_storage_uri(text), "pytorch")
        assert "bucket/pytorch" in str(raised.value.hint)
        check_model_folder(parse_storage_uri(text), "sklearn")
    check_model_folder(parse_storage_uri("gs://bucket/dir"), "pytorch")
    check_model_folder(parse_storage_uri("pvc://claim"), "pytorch")


def test_an_archive_instead_of_its_folder_is_refused_for_pytorch() -> None:
    with pytest.raises(InputError, match="is an archive") as raised:
        check_model_folder(parse_storage_uri("gs://bucket/dir/m.mar"), "pytorch")
    assert "`config` and `model-store`" in raised.value.message
