"""The command line on a Nuclio."""

from __future__ import annotations

import json

import pytest

from fnbuild.cli.app import run
from fnbuild.platforms.nuclio import NuclioPlatform
from tests.platforms.nuclio.fake_nuclio import Nuclio

pytestmark = pytest.mark.system

CODE = "ZGVmIGhhbmRsZXIoYywgZSk6CiAgICByZXR1cm4gMQo="


@pytest.mark.usefixtures("platform")
def test_commands_manage_a_function(
    images: dict[str, str],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FNBUILD_PLATFORM", "nuclio")

    def fnbuild(*arguments: str) -> tuple[int, str, str]:
        status = run([*arguments, "-n", namespace])
        output = capsys.readouterr()
        return status, output.out, output.err

    source = ("greeter", "--run-image", images["one"], "--handler", "main:handler")
    status, out, err = fnbuild("deploy", *source, "--project-name", "cvat", "-o", "url")
    assert status == 0, err
    assert out.startswith("http://127.0.0.1:")
    assert "created project cvat" in err

    status, out, _ = fnbuild("invoke", "greeter", "-b", "[1]", "-c", "application/json")
    assert (status, json.loads(out)["got"]) == (0, [1])
    status, out, _ = fnbuild("logs", "greeter", "--tail", "1")
    assert (status, json.loads(out)["message"]) == (0, "asked")
    status, _, err = fnbuild("diff", *source, "--env", "GREETING=hello")
    assert status == 0, err
    assert fnbuild("rollback", "greeter")[0] == 1

    # The remedy in the hint of the error.
    second_source = ("greeter", "--run-image", images["two"], "--handler", "main:handler")
    status, out, err = fnbuild("deploy", *second_source, "-o", "json")
    assert status == 0, err
    assert json.loads(out)["status"]["revision"] == 2
    status, out, _ = fnbuild("get", "functions", "-o", "json")
    assert json.loads(out)["metadata"]["labels"]["nuclio.io/project-name"] == "cvat"

    status, out, _ = fnbuild("deploy", *second_source, "--dry-run", "-o", "json")
    assert json.loads(out)["items"][0]["kind"] == "NuclioFunction"
    assert fnbuild("delete", "function", "greeter")[0] == 0
    assert fnbuild("get", "functions")[1] == "No functions found\n"


@pytest.mark.usefixtures("platform")
def test_a_function_of_nuctl_moves_to_another_platform(
    nuclio: Nuclio,
    platform: NuclioPlatform,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metadata = {"name": "eyes", "namespace": namespace, "resourceVersion": "1"}
    build = {"functionSourceCode": CODE, "codeEntryType": "sourceCode", "timestamp": 17}
    spec = {
        "handler": "main:handler",
        "runtime": "python:3.11",
        "image": "x/eyes:1",
        "build": build,
    }
    function = {"metadata": metadata, "spec": spec, "status": {"state": "ready"}}
    nuclio.functions[namespace, "eyes"] = function
    assert run(["export", "function", "eyes", "--platform", "nuclio", "-n", namespace]) == 0
    exported = capsys.readouterr().out
    (nuclio.folder / "eyes.yaml").parent.mkdir(exist_ok=True)
    (nuclio.folder / "eyes.yaml").write_text(exported)
    # On a platform without images the exported code is deployed.
    arguments = ["import", "function", str(nuclio.folder / "eyes.yaml"), "-n", namespace]
    assert run([*arguments, "--platform", "process"]) == 0
    assert run(["deploy", "eyes", "--dry-run", "-n", namespace, "--platform", "process"]) == 0
    assert "create" in capsys.readouterr().out
