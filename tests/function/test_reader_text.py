"""A configuration that is given as text."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from fnbuild.function import reader
from tests.function.function_folder import Folder

WRONG = """\
metadata:
  name: cars
spec:
  runtime: pyton:3.9
  eventTimeout: soon
  replica: 2
  build:
    functionSourceCode: {code}
"""
INLINE = """\
# @nuclio.configure
#
# function.yaml:
#   spec:
#     minReplicas: many
#
def handler(context, event):
    return ""
"""


def test_text_has_the_findings_of_the_file(folder: Folder) -> None:
    text = WRONG.format(code=base64.b64encode(INLINE.encode()).decode())
    function, report = reader.check_text(text.encode(), "function.yaml")
    assert function is not None
    assert function.metadata.name == "cars"
    file_findings = folder.findings(text)
    text_findings = [
        (finding.rule, finding.message, finding.span and finding.span.line) for finding in report
    ]
    assert text_findings == [
        (finding.rule, finding.message, finding.span and finding.span.line)
        for finding in file_findings
    ]
    assert {finding.rule for finding in report} >= {"runtime", "unknown-key", "wrong-type"}


def test_empty_text_has_no_function() -> None:
    for data in (b"", b"- one\n", b"\xff\xfe", b"metadata: [\n"):
        function, report = reader.check_text(data, "function.yaml")
        assert function is None or not function.metadata.name
        assert report.errors or data == b""


def test_no_path_in_the_text_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise AssertionError(f"{self} was looked at")

    for name in ("is_file", "is_dir", "exists", "stat", "open", "read_bytes", "iterdir", "glob"):
        monkeypatch.setattr(Path, name, refuse)
    text = (
        "metadata: {name: cars}\n"
        "spec: {handler: '/etc/passwd:handler', build: {path: /etc, functionConfigPath: /etc/x},"
        " volumes: [{volume: {name: a, hostPath: {path: /etc}},"
        " volumeMount: {name: a, mountPath: /b}}]}\n"
    )
    function, _ = reader.check_text(text.encode(), "function.yaml")
    assert function is not None
