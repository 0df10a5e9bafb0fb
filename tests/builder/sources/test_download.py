"""Downloads: supported URLs, refused ones, and redacted secrets."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.builder.sources import download
from fnbuild.builder.sources.download import download_file, parse_address, printable_url
from fnbuild.builder.sources.limits import DEFAULT_LIMITS, SourceLimits
from fnbuild.errors import InputError
from tests.builder.sources.conftest import Page, Web

BODY = b"def handler(context, event):\n    return 'ok'\n"
HASH = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., bytes]:
    def call(url: str, **options: object) -> bytes:
        limits = options.pop("limits", DEFAULT_LIMITS)
        return download_file(
            parse_address(url, **options), tmp_path, lambda _: None, limits
        ).read_bytes()  # type: ignore[arg-type]

    return call


def fault(get: Callable[..., bytes], url: str, **options: object) -> InputError:
    with pytest.raises(InputError) as raised:
        get(url, **options)
    return raised.value


def test_a_file(web: Web, get: Callable[..., bytes], tmp_path: Path) -> None:
    web.pages["/a/main.py?v=2"] = Page(BODY)
    assert get(f"{web.url}/a/main.py?v=2") == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


@pytest.mark.parametrize("how", ["fragment", "attribute", "both"])
def test_a_hash_is_checked(web: Web, get: Callable[..., bytes], how: str) -> None:
    web.pages["/x.py"] = Page(BODY)

    def call(digest: str) -> bytes:
        url = f"{web.url}/x.py" + ("" if how == "attribute" else f"#sha256={digest}")
        return get(url, sha256="" if how == "fragment" else digest.upper())

    assert call(HASH) == BODY
    with pytest.raises(InputError, match=HASH) as raised:
        call("0" * 64)
    assert raised.value.hint


def test_invalid_hashes(web: Web, get: Callable[..., bytes]) -> None:
    assert "not a sha256" in str(fault(get, f"{web.url}/x.py#sha256=123"))
    assert "sha256 differ" in str(fault(get, f"{web.url}/x.py#sha256={HASH}", sha256="0" * 64))
    assert web.seen == []


@pytest.mark.parametrize(
    "url", ["http://example.com/x.zip", "ftp://example.com/x", "file:///etc/passwd", "https:///x"]
)
def test_unsupported_urls(url: str) -> None:
    with pytest.raises(InputError, match="cannot be used") as raised:
        parse_address(url)
    assert raised.value.hint


def test_http_is_allowed_with_a_hash() -> None:
    assert parse_address(f"http://example.com/x.zip#sha256={HASH}").sha256 == HASH


def test_headers_and_users_are_sent_but_not_shown(web: Web, get: Callable[..., bytes]) -> None:
    web.pages["/x.py?sig=s3cret"] = Page(status=403)
    url = web.url.replace("//", "//me:s3cret@") + "/x.py?sig=s3cret"
    error = fault(get, url, headers={"X-Token": "s3cret"})
    assert "403" in str(error)
    assert "Authorization" in str(error.hint)
    assert "s3cret" not in f"{error} {error.hint} {error.detail} {parse_address(url)!r}".replace(
        parse_address(url).url, ""
    )
    sent = web.seen[0][1]
    assert sent["X-Token"] == "s3cret"
    assert base64.b64decode(sent["Authorization"].split()[1]) == b"me:s3cret"


def test_invalid_headers_are_refused(get: Callable[..., bytes], web: Web) -> None:
    assert "header" in str(fault(get, f"{web.url}/x", headers={"A": "1\r\nB: 2"}))
    assert "header" in str(fault(get, f"{web.url}/x", headers={"A B": "1"}))


def test_redirects_are_followed(web: Web, get: Callable[..., bytes]) -> None:
    web.pages["/old"] = Page(status=302, headers={"Location": "/new"})
    web.pages["/new"] = Page(BODY)
    assert get(f"{web.url}/old", headers={"X-Token": "1"}) == BODY
    assert [seen[1].get("X-Token") for seen in web.seen] == ["1", "1"]


def test_secrets_are_not_sent_to_another_server(web: Web, get: Callable[..., bytes]) -> None:
    other = web.url.replace("127.0.0.1", "localhost")
    web.pages["/old"] = Page(status=307, headers={"Location": f"{other}/new"})
    web.pages["/new"] = Page(BODY)
    assert get(f"{web.url}/old", headers={"Authorization": "Bearer 1"}) == BODY
    assert [seen[1].get("Authorization") for seen in web.seen] == ["Bearer 1", None]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://example.com/x", "cannot be used"),
        ("file:///etc/passwd?k=s3cret", "302 Found"),
        ("ftp://example.com/x", "not an http(s) address"),
    ],
)
def test_redirects_are_checked(
    web: Web, get: Callable[..., bytes], target: str, message: str
) -> None:
    web.pages["/old"] = Page(status=302, headers={"Location": target})
    error = fault(get, f"{web.url}/old")
    assert message in str(error)
    assert "s3cret" not in f"{error} {error.hint}"


def test_a_remote_server_cannot_redirect_to_this_machine(
    web: Web, get: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.pages["/old"] = Page(status=302, headers={"Location": "http://127.0.0.1:1/admin"})
    # This server acts as the remote one.
    monkeypatch.setattr(download, "is_loopback", lambda host: host == "127.0.0.1")
    url = web.url.replace("127.0.0.1", "localhost") + f"/old#sha256={HASH}"
    assert "on this machine itself" in str(fault(get, url))


def test_endless_redirects(web: Web, get: Callable[..., bytes]) -> None:
    for number in range(9):
        web.pages[f"/{number}"] = Page(status=302, headers={"Location": f"/{number + 1}"})
    assert "cannot be downloaded" in str(fault(get, f"{web.url}/0"))
    assert len(web.seen) < 9


def test_a_missing_page(web: Web, get: Callable[..., bytes]) -> None:
    error = fault(get, f"{web.url}/x.zip")
    assert f"{web.url}/x.zip" in str(error)
    assert "404" in str(error)
    assert error.hint


def test_too_large(web: Web, get: Callable[..., bytes]) -> None:
    web.pages["/x"] = Page(bytes(3 << 20))
    assert "larger than 2.0 MiB" in str(
        fault(get, f"{web.url}/x", limits=SourceLimits(download_bytes=2 << 20))
    )


def test_a_connection_that_ends_too_early(web: Web, get: Callable[..., bytes]) -> None:
    web.pages["/x"] = Page(BODY, cut=100)
    # The server keeps the connection open for the next request, until the timeout.
    error = fault(get, f"{web.url}/x", limits=SourceLimits(idle_seconds=0.3))
    assert f"{web.url}/x" in str(error)


def test_a_refused_connection(get: Callable[..., bytes]) -> None:
    error = fault(get, "http://127.0.0.1:9/x.zip")
    assert "refused" in str(error)
    assert error.hint


def test_urls_are_redacted() -> None:
    assert printable_url("https://u:p@h/a?k=1#sha256=2") == "https://h/a?…"
    assert printable_url("https://h/a#x") == "https://h/a"
    assert printable_url("http://user:TOP/S@CRET@h/a") == "http://h/a"
    assert printable_url("https://h/a@v1/x") == "https://h/a@v1/x"


def test_a_password_with_a_slash_is_not_shown() -> None:
    with pytest.raises(InputError) as raised:
        parse_address("http://user:TOP/SECRETPW@example.com/x.zip")
    error = raised.value
    assert not {"TOP", "SECRETPW"} & set(re.findall(r"\w+", f"{error} {error.detail}"))
    assert "%2F" in str(error.hint)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/", "source"), ("https://h/a/x.tar.gz?b", "x.tar.gz"),
        ("https://h/..%2f..%2fetc", "_.._etc"), ("https://h/.bashrc", "bashrc"),
    ],
)  # fmt: skip
def test_names_of_files(url: str, name: str) -> None:
    assert parse_address(url).name == name
