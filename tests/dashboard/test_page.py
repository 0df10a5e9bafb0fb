"""The page's files as they are sent, and the files that the first view needs."""

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


def asked(
    dashboard: Dashboard, path: str, method: str = "GET", **headers: str
) -> tuple[int, Message, bytes]:
    """Return the response as it is on the wire, not decoded by a client."""
    link = http.client.HTTPConnection(dashboard.url.removeprefix("http://"), timeout=20)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        link.request(method, path, headers=sent)
        answer = link.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        link.close()


@pytest.mark.parametrize("name", FILES)
def test_every_file_comes_as_it_is_plain_or_compressed(dashboard: Dashboard, name: str) -> None:
    content = (STATIC_FOLDER / name).read_bytes()
    status, headers, body = asked(dashboard, f"/static/{name}")
    assert (status, body) == (200, content)
    assert headers["content-encoding"] is None
    suffix = (STATIC_FOLDER / name).suffix
    if suffix in KINDS:
        assert headers.get_content_type() == KINDS[suffix]

    status, headers, body = asked(dashboard, f"/static/{name}", Accept_Encoding="gzip, br")
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
def test_what_a_browser_has_is_not_sent_again(dashboard: Dashboard, path: str) -> None:
    _, headers, body = asked(dashboard, path, Accept_Encoding="gzip")
    assert body
    known = {"If_None_Match": f'"other", W/{headers["etag"]}', "Accept_Encoding": "gzip"}
    status, again, nothing = asked(dashboard, path, **known)
    assert (status, nothing, again["etag"]) == (304, b"", headers["etag"])
    status, _, whole = asked(dashboard, path, Accept_Encoding="gzip", If_None_Match='"other"')
    assert (status, whole) == (200, body)


def test_plain_and_compressed_are_not_taken_for_each_other(dashboard: Dashboard) -> None:
    _, plain, content = asked(dashboard, "/static/app.js")
    held = {"If_None_Match": plain["etag"], "Accept_Encoding": "gzip"}
    status, _, body = asked(dashboard, "/static/app.js", **held)
    assert status == 200
    assert gzip.decompress(body) == content


def test_other_ways_to_ask_for_a_file(dashboard: Dashboard) -> None:
    status, headers, body = asked(dashboard, "/static/app.js", "HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == str((STATIC_FOLDER / "app.js").stat().st_size)
    status, headers, _ = asked(dashboard, "/static/app.js", "POST")
    assert status == 405
    assert "GET" in headers["allow"]
    assert asked(dashboard, "/static/absent.js")[0] == 404


def imported(*names: str) -> set[str]:
    """Return these modules and all modules that they import."""
    found: set[str] = set()
    coming = list(names)
    while coming:
        name = coming.pop()
        if name not in found:
            found.add(name)
            text = (STATIC_FOLDER / name).read_text()
            coming += re.findall(r'^import [^;]* from "\./([^"]+)";', text, re.MULTILINE)
    return found


def test_the_page_asks_at_once_for_what_its_first_picture_needs_and_for_no_more() -> None:
    text = (STATIC_FOLDER / "index.html").read_text()
    told = re.findall(r'(?:src|rel="modulepreload" href)="/static/([^"]+\.js)"', text)
    assert len(told) == len(set(told))
    assert set(told) == imported("app.js", "list.js")
