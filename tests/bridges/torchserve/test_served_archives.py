"""Archives of functions in a real TorchServe, compared with fnbuild's own processor."""

from __future__ import annotations

import fcntl
import io
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from fnbuild.bridges.torchserve.export import ExportOptions, export_function
from fnbuild.function.reader import load_function
from tests.runtime.conftest import Running, eventually, running
from tests.torchserve_server import TorchServe, running_torchserve

pytestmark = pytest.mark.system

REPLIES = """
import json
import os
import time

from fnbuild import vision

class Refused(Exception):
    reply_status = 422

def init_context(context):
    with open("/opt/nuclio/words.json") as file:
        context.user_data.words = json.load(file)
    context.user_data.calls = 0

def handler(context, event):
    if isinstance(event.body, dict):
        return {"got": event.body, "words": context.user_data.words}
    body = bytes(event.body)
    if body[:2] == b"\\xff\\xd8":
        height, width = vision.decode(event).shape[:2]
        return vision.reply(context, [vision.rectangle("cat", (0, 0, width, height), 0.5)])
    print("handling", body[:20])
    context.logger.info_with("handling", size=len(body))
    kind = body.decode(errors="replace")
    if kind == "fail":
        raise ValueError("bad picture")
    if kind == "refuse":
        raise Refused("no picture")
    if kind == "exit":
        raise SystemExit("over")
    if kind == "wrong":
        return {"set": {1}}
    if kind == "slow":
        time.sleep(1.5)
    if kind == "gpus":
        return "gpus=" + os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if kind == "environment":
        return [os.environ["MODE"], os.environ["NUCLIO_FUNCTION_NAME"], os.getcwd()]
    return {
        "text": "Grüße",
        "bytes": b"\\x00\\x01\\xff",
        "number": 5,
        "none": None,
        "list": [1, {"a": None}],
        "pair": (404, "missing"),
        "json pair": (201, {"made": True}),
        "headers": context.Response(body="<p>", headers={"X-One": "1", "X-Two": 2},
                                    content_type="text/html", status_code=418),
        "empty": context.Response(status_code=204, body=b""),
        "nan": [float("nan")],
    }.get(kind, (event.content_type, len(body), event.path, event.method))

def explain(context, event):
    return {"explained": bytes(event.body).decode()}
"""
ROWS = """
def handler(context, event):
    if event.body == b"fail":
        raise ValueError("one bad row")
    return context.Response(body=event.body, headers={"X-Row": event.body.decode()})
"""
BATCH = """
def handler(context, events):
    return [context.Response(body=b"%d of %d" % (len(e.body), 4 * bool(events)), event_id=e.id)
            for e in reversed(events)]
"""
WHEEL = """
import greeting

def handler(context, event):
    return greeting.TEXT
"""
CONFIG = """\
metadata: {{name: {name}}}
spec:
  handler: main:handler
  env: [{{name: MODE, value: fast}}]
  triggers: {{http: {{kind: http, maxWorkers: 1{batch}}}}}
"""


def write_wheel(path: Path) -> None:
    path.parent.mkdir()
    info = "greeting-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("greeting.py", "TEXT = 'hello from the wheel'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", "")


class Servers(NamedTuple):
    torchserve: TorchServe
    processor: Running
    busy: Path


def export(tmp: Path, store: Path, name: str, source: str, **options: Any) -> Path:
    folder = tmp / f"{name}-{options.get('version', '')}"
    folder.mkdir()
    batch = ", batch: {mode: enable, batchSize: 4, timeout: 300ms}" if name == "batch" else ""
    (folder / "function.yaml").write_text(CONFIG.format(name=name, batch=batch))
    (folder / "main.py").write_text(textwrap.dedent(source))
    (folder / "words.json").write_text('["a", "b"]')
    if name == "wheel":
        write_wheel(folder / "wheels" / "greeting-1.0-py3-none-any.whl")
        (folder / "requirements.txt").write_text("./wheels/greeting-1.0-py3-none-any.whl\n")
    chosen = ExportOptions(export_path=tmp / folder.name, model_name=name, **options)
    archive = export_function(load_function(folder).function, folder, chosen).path
    return archive.rename(store / f"{folder.name}.mar")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A TorchServe with all archives, and a processor with the function of the first."""
    tmp = tmp_path_factory.mktemp("servers")
    store, processor_folder, busy = tmp / "store", tmp / "processor", tmp / "busy"
    store.mkdir()
    processor_folder.mkdir()
    rows = tmp / "rows.yaml"
    rows.write_text("{minWorkers: 1, maxWorkers: 1, batchSize: 3, maxBatchDelay: 500}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(tmp / "data"))
        export(tmp, store, "replies", REPLIES, version="1.0")
        export(tmp, store, "replies", "def handler(context, event): return 'two'", version="2.0")
        export(tmp, store, "rows", ROWS, version="1.0", config_file=rows)
        export(tmp, store, "batch", BATCH, version="1.0")
        export(tmp, store, "wheel", WHEEL, version="1.0")
    # The drafts of other processes are no models.
    (store / ".fnbuild-other.mar").mkdir()
    environment = {"FNBUILD_BUSY_LOCK": str(busy)}
    properties = {"install_py_dep_per_model": "true"}
    files = {"words.json": '["a", "b"]'}
    with (
        running_torchserve(store, properties, environment=environment) as torchserve,
        running(
            processor_folder,
            REPLIES,
            files=files,
            mount="/opt/nuclio",
            env={"MODE": "fast"},
        ) as processor,
    ):
        yield Servers(torchserve, processor, busy)


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    return file.getvalue()


JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        *((word, "text/plain") for word in ("text", "bytes", "number", "none", "list", "nan")),
        *((word, "") for word in ("pair", "json pair", "headers", "empty", "other")),
        *((word, "") for word in ("fail", "refuse", "exit", "wrong")),
        ('{"a":  [1, "é"]}', JSON),
        ('{"a": 1}', f"{JSON}; charset=utf-8"),
        ("{broken", JSON),
        ("", "application/octet-stream"),
        (jpeg(), "image/jpeg"),
        (jpeg(), ""),
    ],
)
def test_an_archive_answers_as_the_function(
    servers: Servers, body: str | bytes, content_type: str
) -> None:
    data = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": content_type} if content_type else {}

    ours = servers.processor.send(data, content_type=content_type or "application/octet-stream")
    theirs = servers.torchserve.predict("replies/1.0", data, headers)

    assert theirs.status_code == ours.status
    if body != "other":  # replies with the type, which is not set
        assert theirs.content.decode("latin-1") == ours.body.decode("latin-1")
    for name in ("Content-Type", "X-One", "X-Two"):
        assert theirs.headers.get(name) == ours.header(name)


def test_versions_are_served_side_by_side(servers: Servers) -> None:
    assert servers.torchserve.predict("replies/2.0", b"text").text == "two"
    assert servers.torchserve.predict("replies/1.0", b"text").content == "Grüße".encode()
    assert sorted(servers.torchserve.models()) == ["batch", "replies", "rows", "wheel"]


def test_requirements_of_the_function_are_installed(servers: Servers) -> None:
    assert servers.torchserve.predict("wheel").text == "hello from the wheel"


def test_an_exception_of_a_row_fails_only_that_row_of_the_batch(servers: Servers) -> None:
    bodies = [b"one", b"fail", b"three"]
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda b: servers.torchserve.predict("rows", b), bodies))

    assert [reply.status_code for reply in replies] == [200, 500, 200]
    assert [reply.headers.get("X-Row") for reply in replies] == ["one", None, "three"]
    assert "ValueError: one bad row (main.py:4, in handler)" in replies[1].text
    assert 'File "/opt/nuclio/main.py", line 4, in handler' in servers.torchserve.log()


def test_a_function_with_batches_gets_the_requests_of_a_batch_at_once(servers: Servers) -> None:
    described = servers.torchserve.describe("batch")[0]
    assert (described["batchSize"], described["maxBatchDelay"]) == (4, 300)
    bodies = [b"", b"1", b"22", b"333"]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda b: servers.torchserve.predict("batch", b), bodies))

    assert [reply.text for reply in replies] == [f"{n} of 4" for n in range(4)]


def test_a_form_with_the_part_data_is_that_file(servers: Servers) -> None:
    files = {"data": ("cat.jpg", jpeg(), "image/jpeg")}
    reply = servers.torchserve.predict("replies/1.0", None, files=files)
    assert reply.json()[0]["label"] == "cat"


def test_the_rest_of_the_path_is_that_of_the_event(servers: Servers) -> None:
    reply = servers.torchserve.predict("replies/1.0/tiles/3?x=1", b"other")
    assert "'/tiles/3', 'POST'" in reply.text


def test_explanations_are_those_of_the_function(servers: Servers) -> None:
    def explain(model: str) -> Any:
        path = f"/explanations/{model}"
        return servers.torchserve.ask("inference", path, method="POST", data=b"x")

    assert explain("replies/1.0").json() == {"explained": "x"}
    missing = explain("rows")
    assert missing.status_code == 500
    assert "the function has no explain(context, event)" in missing.text


def test_without_an_assigned_gpu_none_is_visible(servers: Servers) -> None:
    assert servers.torchserve.predict("replies/1.0", b"gpus").text == "gpus="


def test_the_variables_of_the_function_are_set(servers: Servers) -> None:
    mode, name, folder = servers.torchserve.predict("replies/1.0", b"environment").json()
    assert (mode, name, folder) == ("fast", "replies", "/opt/nuclio")


def test_output_and_records_are_in_the_log_of_torchserve(servers: Servers) -> None:
    servers.torchserve.predict("replies/1.0", b"text")
    log = eventually(lambda: "handling b'text'" in (log := servers.torchserve.log()) and log)
    assert 'MODEL_LOG - INFO handling {"size": 4}' in log


def test_a_busy_worker_holds_the_shared_lock(servers: Servers) -> None:
    def is_idle() -> bool:
        with servers.busy.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    eventually(is_idle)
    request = threading.Thread(target=servers.torchserve.predict, args=("replies/1.0", b"slow"))
    request.start()
    eventually(lambda: not is_idle())
    request.join()
    eventually(is_idle)
