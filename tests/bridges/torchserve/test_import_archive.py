"""Archives become functions."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fnbuild.bridges.torchserve.import_archive import ImportOptions, import_archive
from fnbuild.bridges.torchserve.server_config import ModelSettings, ServerConfig
from fnbuild.errors import ConflictError, FnbuildError, InputError
from fnbuild.function.reader import load_function
from fnbuild.function.types import Function

HANDLER = "def handle(data, context):\n    return data\n"


def make_archive(folder: Path, files: dict[str, str | bytes], **manifest: Any) -> Path:
    """Write an archive; `manifest` has values of the model, and `runtime`."""
    runtime = manifest.pop("runtime", "python")
    model = {"modelName": "echo", "modelVersion": "1.0", "handler": "handler.py", **manifest}
    target = folder / "echo.mar"
    with zipfile.ZipFile(target, "w") as members:
        for name, content in {"handler.py": HANDLER, **files}.items():
            members.writestr(name, content)
        text = json.dumps({"runtime": runtime, "model": model})
        members.writestr("MAR-INF/MANIFEST.json", text)
    return target


def imported(tmp_path: Path, files: dict[str, str | bytes], **manifest: Any) -> Function:
    archive = make_archive(tmp_path, files, **manifest)
    return import_archive(archive, tmp_path / "function")


def requirements(tmp_path: Path) -> list[str]:
    file = tmp_path / "function" / "requirements.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def test_an_archive_becomes_a_function_with_the_same_settings(tmp_path: Path) -> None:
    config = """
minWorkers: 1
maxWorkers: 3
batchSize: 8
maxBatchDelay: 50
responseTimeout: 30
deviceType: gpu
"""
    files: dict[str, str | bytes] = {"model-config.yaml": config, "lib/words.txt": "a"}
    function = imported(tmp_path, files, configFile="model-config.yaml", modelName="My_Echo.v2")
    assert function.metadata.name == "my-echo-v2"
    assert function.spec.handler == "handler:handle"
    assert function.spec.runtime == f"python:3.{sys.version_info.minor}"
    assert function.spec.event_timeout == "30s"
    assert function.spec.resources.limits == {"nvidia.com/gpu": "1"}
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert trigger.workers == 3
    assert trigger.worker_availability_timeout_milliseconds == 30000
    assert trigger.batch is not None
    assert (trigger.batch.batch_size, trigger.batch.timeout) == (8, "50ms")
    assert trigger.attributes == {
        "protocols": ["torchserve"],
        "model": "My_Echo.v2",
        "version": "1.0",
        "maxRequestBodySize": 6553500,
        "maxBacklog": 100,
    }
    assert (tmp_path / "function" / "lib" / "words.txt").read_text() == "a"
    assert [(item.name, item.value) for item in function.spec.env] == [("TS_BATCH_SIZE", "8")]
    assert requirements(tmp_path) == ["pyyaml"]
    assert load_function(tmp_path / "function").report.errors == []


def test_defaults_are_those_of_torchserve(tmp_path: Path) -> None:
    function = imported(tmp_path, {})
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert (trigger.workers, trigger.batch) == (1, None)
    assert function.spec.event_timeout == "120s"
    assert "model" not in trigger.attributes
    assert requirements(tmp_path) == []


def test_settings_of_a_server_take_precedence(tmp_path: Path) -> None:
    config = "maxWorkers: 3\nbatchSize: 8\n"
    archive = make_archive(tmp_path, {"m.yaml": config}, configFile="m.yaml")
    settings = ModelSettings(
        default_version=True,
        mar_name="echo.mar",
        min_workers=1,
        max_workers=5,
        batch_size=1,
        max_batch_delay=200,
        response_timeout=7,
    )
    server = ServerConfig(
        default_response_timeout=9,
        job_queue_size=9,
        max_request_size=1000,
        service_envelope="json",
        other={"decode_input_request": "false"},
    )
    options = ImportOptions(settings=settings, server=server)
    function = import_archive(archive, tmp_path / "function", options)
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert (trigger.workers, trigger.batch) == (5, None)
    assert function.spec.event_timeout == "7s"
    assert trigger.attributes["maxBacklog"] == 9
    assert trigger.attributes["maxRequestBodySize"] == 1000
    assert {variable.name: variable.value for variable in function.spec.env} == {
        "TS_SERVICE_ENVELOPE": "json",
        "TS_DECODE_INPUT_REQUEST": "false",
    }


def test_settings_that_torchserve_ignores_do_not_count(tmp_path: Path) -> None:
    config = "maxWorkers: 4\nbatchSize: '8'\nresponseTimeout: 0\ndeviceType: gpu\ndeviceIds: 3\n"
    function = imported(tmp_path, {"m.yaml": config}, configFile="m.yaml")
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert (trigger.workers, trigger.batch) == (1, None)
    assert function.spec.event_timeout == "120s"
    assert function.spec.resources.limits == {"nvidia.com/gpu": "1"}


def test_an_envelope_of_the_manifest_precedes_that_of_the_server(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, {}, envelope="json")
    options = ImportOptions(server=ServerConfig(service_envelope="body"))
    function = import_archive(archive, tmp_path / "function", options)
    assert [(item.name, item.value) for item in function.spec.env] == [
        ("TS_SERVICE_ENVELOPE", "json")
    ]


def test_a_time_in_the_name_stays_out_of_the_functions_name(tmp_path: Path) -> None:
    stamp = "201214_1412"
    function = imported(tmp_path, {}, modelName=f"embedding_{stamp}", modelVersion=stamp)
    _, trigger = function.http_trigger() or pytest.fail("no http trigger")
    assert function.metadata.name == "embedding"
    assert trigger.attributes["version"] == stamp


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("handler.py", "handler:handle"),
        ("handler", "handler:handle"),
        ("handler:other", "handler:other"),
        ("image_classifier", "image_classifier:handle"),
    ],
)
def test_handlers_keep_their_names(tmp_path: Path, handler: str, expected: str) -> None:
    assert imported(tmp_path, {}, handler=handler).spec.handler == expected


@pytest.mark.parametrize(
    ("handler", "source", "packages"),
    [
        ("image_classifier", HANDLER, ["numpy", "pillow", "torch"]),
        ("base_handler", HANDLER, ["torch"]),
        ("text_classifier", HANDLER, ["torchserve"]),
        ("handler.py", "import PIL.Image, yaml\nimport json\n", ["pillow", "pyyaml"]),
        ("handler.py", "from ts.torch_handler.base_handler import BaseHandler\n", ["torch"]),
        ("handler.py", "from ts.utils.util import PredictionException\n", []),
        ("handler.py", "from ts.torch_handler.text_handler import TextHandler", ["torchserve"]),
    ],
)
def test_packages_of_torchserves_environment_are_required(
    tmp_path: Path, handler: str, source: str, packages: list[str]
) -> None:
    imported(tmp_path, {"handler.py": source}, handler=handler)
    assert requirements(tmp_path) == packages


def test_the_archives_own_requirements_stay_and_take_precedence(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "handler.py": "import numpy, torch\n",
        "needs.txt": "torch==2.13.0\nfaiss-cpu\n",
    }
    imported(tmp_path, files, requirementsFile="needs.txt")
    assert requirements(tmp_path) == ["numpy", "-r needs.txt"]


def pyc(magic: int) -> bytes:
    return magic.to_bytes(2, "little") + b"\r\n" + bytes(12)


@pytest.mark.parametrize(
    ("files", "runtime"),
    [
        ({"m.pyc": pyc(3413)}, "python:3.8"),
        ({"m.pyc": pyc(3361)}, "python:3.6"),
        ({"fast.cpython-39-x86_64-linux-gnu.so": ""}, "python:3.9"),
        ({"own-1.0-cp310-cp310-linux_x86_64.whl": ""}, "python:3.10"),
    ],
)
def test_compiled_files_choose_the_python(
    tmp_path: Path, files: dict[str, str | bytes], runtime: str
) -> None:
    assert imported(tmp_path, files).spec.runtime == runtime


INVALID: list[tuple[dict[str, str | bytes], dict[str, str], str]] = [
    ({}, {"runtime": "LSP"}, "echo.mar has the runtime LSP, and fnbuild runs python"),
    ({"m.pyc": pyc(3351)}, {}, "m.pyc is for Python 3.5"),
    (
        {"m.pyc": pyc(3413), "n.pyc": pyc(3495)},
        {},
        "m.pyc is for Python 3.8, n.pyc is for Python 3.11",
    ),
    ({"handler.py": "print 'a'\n"}, {}, "handler.py:1 is not Python 3"),
    ({"m.yaml": "a: [1"}, {"configFile": "m.yaml"}, "m.yaml is not YAML"),
    ({"m.yaml": "[batchSize]"}, {"configFile": "m.yaml"}, "m.yaml is no mapping"),
    ({"function.yaml": "a: 1"}, {}, "has a file function.yaml"),
    ({}, {"modelVersion": "1.0/2"}, "echo.mar has the version '1.0/2', which no path can have"),
]


@pytest.mark.parametrize(("files", "manifest", "message"), INVALID)
def test_an_archive_that_cannot_run_is_one_error_and_leaves_nothing(
    tmp_path: Path, files: dict[str, str | bytes], manifest: dict[str, str], message: str
) -> None:
    with pytest.raises(FnbuildError) as caught:
        imported(tmp_path, files, **manifest)
    assert message in str(caught.value)
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["echo.mar"]


def test_a_folder_with_files_is_never_overwritten(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, {})
    folder = tmp_path / "function"
    folder.mkdir()
    import_archive(archive, folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(ConflictError, match="exists already"):
        import_archive(archive, folder)
    assert sorted(folder.rglob("*")) == before


def test_an_unpacked_archive_is_copied(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(make_archive(tmp_path, {})) as members:
        members.extractall(folder)
    import_archive(folder, tmp_path / "function")
    assert (tmp_path / "function" / "handler.py").read_text() == HANDLER
    assert not (folder / "function.yaml").exists()


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, {})
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        import_archive(archive, tmp_path / "function")
