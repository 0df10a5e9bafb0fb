"""The page's files as sent, and the files that the first view needs."""

from __future__ import annotations

import gzip
import http.client
import re
from email.message import Message

import pytest

from fnbuild.dashboard.page import STATIC_FOLDER
from tests.dashboard.conftest import Dashboard

pytestmark = pytest.mark.system

FILES = sorted(
    path.relative_to(STATIC_FOLDER).as_posix()
    for path in STATIC_FOLDER.rglob("*")
    if path.is_file()
)
KINDS = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".jpg": "image/jpeg"}


def raw_response(
    dashboard: Dashboard, path: str, method: str = "GET", **headers: str
) -> tuple[int, Message, bytes]:
    """Return the response as on the wire, not decoded by a client."""
    link = http.client.HTTPConnection(dashboard.url.removeprefix("http://"), timeout=20)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        link.request(method, path, headers=sent)
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        link.close()


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_sent_plain_or_compressed(dashboard: Dashboard, name: str) -> None:
    content = (STATIC_FOLDER / name).read_bytes()
    status, headers, body = raw_response(dashboard, f"/static/{name}")
    assert (status, body) == (200, content)
    assert headers["content-encoding"] is None
    suffix = (STATIC_FOLDER / name).suffix
    if suffix in KINDS:
        assert headers.get_content_type() == KINDS[suffix]

    status, headers, body = raw_response(dashboard, f"/static/{name}", Accept_Encoding="gzip, br")
    assert status == 200
    if headers["content-encoding"] == "gzip":
        assert gzip.decompress(body) == content
        assert len(body) < len(content)
    else:
        assert body == content
        assert suffix == ".jpg"
    assert headers["vary"] == "Accept-Encoding"
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("path", ["/", "/api/docs", "/static/app.js", "/static/samples/coffee.jpg"])
def test_cached_files_are_not_sent_again(dashboard: Dashboard, path: str) -> None:
    _, headers, body = raw_response(dashboard, path, Accept_Encoding="gzip")
    assert body
    conditions = {"If_None_Match": f'"other", W/{headers["etag"]}', "Accept_Encoding": "gzip"}
    status, again, nothing = raw_response(dashboard, path, **conditions)
    assert (status, nothing, again["etag"]) == (304, b"", headers["etag"])
    status, _, content = raw_response(
        dashboard, path, Accept_Encoding="gzip", If_None_Match='"other"'
    )
    assert (status, content) == (200, body)


def test_plain_and_compressed_files_have_different_etags(dashboard: Dashboard) -> None:
    _, plain, content = raw_response(dashboard, "/static/app.js")
    held = {"If_None_Match": plain["etag"], "Accept_Encoding": "gzip"}
    status, _, body = raw_response(dashboard, "/static/app.js", **held)
    assert status == 200
    assert gzip.decompress(body) == content


def test_other_requests_for_a_file(dashboard: Dashboard) -> None:
    status, headers, body = raw_response(dashboard, "/static/app.js", "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str((STATIC_FOLDER / "app.js").stat().st_size)
    status, headers, _ = raw_response(dashboard, "/static/app.js", "POST")
    assert status == 405
    assert "GET" in headers["allow"]
    assert raw_response(dashboard, "/static/absent.js")[0] == 404


def imported(*names: str) -> set[str]:
    """Return these modules and all modules that they import."""
    results: set[str] = set()
    coming = list(names)
    while coming:
        name = coming.pop()
        if name not in results:
            results.add(name)
            text = (STATIC_FOLDER / name).read_text()
            coming += re.findall(r'^import [^;]* from "\./([^"]+)";', text, re.MULTILINE)
    return results


def test_the_page_preloads_exactly_the_files_of_the_first_view() -> None:
    text = (STATIC_FOLDER / "index.html").read_text()
    preloaded = re.findall(r'(?:src|rel="modulepreload" href)="/static/([^"]+\.js)"', text)
    assert len(preloaded) == len(set(preloaded))
    assert set(preloaded) == imported("app.js", "list.js")
