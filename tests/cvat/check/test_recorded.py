"""Recorded replies are checked as those to the requests of a check."""

import json
from pathlib import Path
from typing import Any

from fnbuild.cvat.check.pictures import check_pictures
from fnbuild.cvat.check.probe import Subject
from fnbuild.cvat.check.recorded import examine_recording
from fnbuild.cvat.check.requests import sample_request
from fnbuild.function.types import Function, Metadata
from fnbuild.runtime.recording import files

FUNCTION = Function(
    metadata=Metadata(name="cars", annotations={"type": "detector", "spec": '[{"name": "car"}]'})
)


def test_recorded_replies(tmp_path: Path) -> None:
    picture = next(iter(check_pictures()))
    request = sample_request("detector", FUNCTION, picture.image).body
    folder = str(tmp_path / "recording")
    files.make_folder(folder)

    def store(name: str, body: bytes, status: int, reply: Any) -> None:
        header = {"time": 1.8e9, "status": status, "seconds": 0.25, "method": "POST"}
        header |= {"path": "/", "headers": {}}
        entry = files.Entry(name, header, body, json.dumps(reply).encode())
        files.store_entry(folder, entry, "application/json")

    store("1", request, 200, [{"label": "bus", "type": "tag"}])
    store("2", request, 500, {"error": "out of memory"})
    store("3", b'{"inputs": []}', 500, {})
    result = examine_recording(Subject(FUNCTION, "detector"), tmp_path / "recording")
    assert [(f.rule, f.path) for f in result.findings] == [
        ("label-unknown", "[0].label"),
        ("status", ""),
    ]
    assert "out of memory" in result.findings[1].message
    assert [case.seconds for case in result.cases] == [0.25, 0.25]
