"""`fnbuild check` raises nothing on the functions of the library, which run in this process."""

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nuclio_sdk import Event

from fnbuild.cvat.check.examination import examine
from fnbuild.cvat.check.pictures import LARGE
from fnbuild.cvat.check.probe import Subject, TargetReply
from fnbuild.function.labels import function_kind
from fnbuild.function.reader import load_function
from tests.functions.conftest import ROOT, Handler
from tests.functions.library import importable_packages

REQUIRED = {"face-haar", "grabcut", "optical-flow", "people-hog", "shapes", "mobilenet"}
"""Functions whose packages and weights this environment has."""
FOLDERS = [path.parent for path in sorted((ROOT / "functions").glob("*/*/function.yaml"))]


class Worker:
    """A function as a target. A restarted worker is a new handler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.restart_workers()

    def restart_workers(self) -> bool:
        self.handler = Handler(self.folder)
        return True

    def send(self, body: bytes) -> TargetReply:
        try:
            fields = json.loads(body)
        except ValueError:
            fields = body
        try:
            reply = self.handler.module.handler(self.handler.context, Event(body=fields))
        except Exception:  # noqa: BLE001 - the processor answers so
            return TargetReply(500, traceback.format_exc().encode())
        content = reply.body if isinstance(reply.body, bytes) else reply.body.encode()
        return TargetReply(reply.status_code, content)


@pytest.fixture(autouse=True)
def packages() -> Iterator[None]:
    with importable_packages():
        yield


@pytest.mark.parametrize("folder", FOLDERS, ids=[f"{f.parent.name}-{f.name}" for f in FOLDERS])
def test_no_finding(
    folder: Path, set_weights: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = load_function(folder).function
    kind = function_kind(function)
    if kind is None:
        pytest.skip("not for CVAT")
    set_weights(folder)
    # Functions with embeddings keep them under this name.
    monkeypatch.setenv("NUCLIO_FUNCTION_NAME", folder.name)
    try:
        worker = Worker(folder)
    except (Exception, SystemExit) as error:
        if folder.name in REQUIRED:
            raise
        pytest.skip(f"this environment lacks its packages or weights: {error}")
    result = examine(Subject(function, kind), worker, lambda _: None, skipped=[LARGE])
    assert [(f.rule, f.path, f.message, f.cases) for f in result.findings] == []
