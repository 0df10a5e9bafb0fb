"""The command line on a cluster."""

from __future__ import annotations

import json
import subprocess

import pytest

from fnbuild.errors import NotReadyError
from tests.engine import require_program, until
from tests.platforms.folders import config
from tests.platforms.kubernetes.author import Author, Commands

pytestmark = pytest.mark.system


def test_commands_can_force_conflicting_fields(
    author: Author, image: str, fnbuild: Commands
) -> None:
    author.run(image)
    edited = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 9}}}}
    commands = [
        ("update", "function", "greeter", "--env", "WORD=two"),
        ("rollback", "greeter"),
        ("redeploy", "greeter"),
    ]
    for command in commands:
        author.edit(edited)
        status, _, stderr = fnbuild(*command)
        assert status == 1
        assert "that kubectl-edit manages" in stderr
        assert "--force-conflicts" in stderr
        status, _, stderr = fnbuild(*command, "--force-conflicts")
        assert status == 0, stderr
    assert author.deployment().revision == 4


def test_an_empty_log_is_explained(author: Author, image: str, fnbuild: Commands) -> None:
    author.run(image, replicas=0)
    for options in ((), ("--errors",)):
        status, stdout, stderr = fnbuild("logs", "greeter", *options)
        assert (status, stdout) == (0, "")
        assert stderr == "greeter is scaled to zero: nothing runs that could write\n"
    with pytest.raises(NotReadyError):
        author.run("registry.invalid/fnbuild-test/none:1", "broken")
    reason = "broken is error: the nodes cannot reach the registry"
    # The kubelet's event, which has the reason, may come a little after the state of the pod.
    until("the event with the reason", lambda: fnbuild("logs", "broken")[2].startswith(reason))
    status, stdout, _ = fnbuild("logs", "broken")
    assert (status, stdout) == (0, "")


def test_manifests_applied_from_git_are_taken_over_on_request(
    author: Author, image: str, fnbuild: Commands
) -> None:
    kubectl = require_program("kubectl")
    file = author.home / "function.yaml"
    file.write_text(config("greeter", image, "  imagePullPolicy: IfNotPresent\n"))
    source = ("greeter", "-f", str(file), "--run-image", image)
    _, stdout, _ = fnbuild("deploy", *source, "--dry-run", "-o", "yaml")
    applied = [kubectl, "apply", "-n", author.namespace, "-f", "-"]
    subprocess.run(applied, input=stdout.encode(), check=True, capture_output=True)
    status, _, stderr = fnbuild("deploy", *source, "-e", "WORD=two")
    assert status == 1
    assert "that kubectl-client-side-apply manages" in stderr
    status, stdout, stderr = fnbuild("diff", *source, "-e", "WORD=two")
    assert status == 0
    assert "warning: " in stderr
    assert "kubectl-client-side-apply" in stderr
    assert "WORD" in stdout
    status, _, stderr = fnbuild("deploy", *source, "-e", "WORD=two", "--force-conflicts")
    assert status == 0, stderr
    assert fnbuild("invoke", "greeter")[1].strip() == "two"


def test_manifests_for_git_reference_a_secret(
    author: Author, image: str, fnbuild: Commands
) -> None:
    source = (
        "greeter",
        "--run-image",
        image,
        "--handler",
        "main:handler",
        "-e",
        "API_TOKEN=hidden",
    )
    status, stdout, stderr = fnbuild("deploy", *source, "--dry-run", "-o", "yaml")
    assert status == 0, stderr
    assert "hidden" not in stdout + stderr
    assert stderr.count("API_TOKEN from the Secret nuclio-greeter") == 1
    assert f"-n {author.namespace} --from-literal=API_TOKEN=…" in stderr
    status, _, stderr = fnbuild("deploy", *source, "--dry-run")
    assert (status, "Secret" in stderr) == (0, False)
    status, stdout, stderr = fnbuild("deploy", *source, "--dry-run", "-o", "url")
    assert (status, stdout) == (2, "")
    assert "a plan has no URL" in stderr


def test_an_export_names_the_image_with_the_code(
    author: Author, image: str, fnbuild: Commands
) -> None:
    author.run(image, env={"WORD": "from the image"}, imagePullPolicy="IfNotPresent")
    status, stdout, stderr = fnbuild("export", "functions", "greeter")
    assert status == 0
    assert (
        f"the code of greeter is not in the export; it is in the image {image}, which the export"
        " names" in stderr
    )
    file = author.home / "export.yaml"
    file.write_text(stdout)
    assert fnbuild("delete", "function", "greeter")[0] == 0
    assert fnbuild("import", "functions", str(file))[0] == 0
    status, _, stderr = fnbuild("deploy", "greeter")
    assert status == 0, stderr
    status, stdout, stderr = fnbuild("invoke", "greeter")
    assert (status, stdout) == (0, "from the image"), stderr


def test_manifests_may_have_a_pod_monitor_and_an_unpushed_image(
    author: Author, fnbuild: Commands
) -> None:
    folder = author.write()
    options = ("--path", str(folder), "-r", "registry.example.com/none", "--dry-run", "-o", "yaml")
    status, stdout, stderr = fnbuild("deploy", "greeter", *options)
    assert (status, "PodMonitor" in stdout) == (0, False), stderr
    assert "was not pushed from this code yet" in stderr
    status, stdout, _ = fnbuild("deploy", "greeter", *options, "--monitoring")
    assert (status, stdout.count("kind: PodMonitor")) == (0, 1)
    status, _, stderr = fnbuild("deploy", "greeter", "--path", str(folder), "--monitoring")
    assert (status, "it needs --dry-run and -o yaml" in stderr) == (2, True)


def test_previous_logs_and_the_reason_of_a_restart_are_shown(
    author: Author, image: str, fnbuild: Commands
) -> None:
    # With Recreate the processor ends at once, without waiting for requests.
    author.run(image, deploymentStrategy={"type": "Recreate"})
    assert fnbuild("logs", "greeter", "--previous") == (
        0,
        "",
        "greeter has no earlier log: none of its containers was started again\n",
    )
    assert fnbuild("get", "function", "-o", "wide")[1].splitlines()[0].count("RESTARTS") == 1
    assert fnbuild("invoke", "greeter", "--path", "/end")[0] == 0
    until("the next start", lambda: author.platform.restarts(author.namespace))
    status, stdout, stderr = fnbuild("logs", "greeter", "--previous")
    assert (status, "the last words" in stdout) == (0, True), stderr
    assert "the last words" not in fnbuild("logs", "greeter")[1]
    stdout = fnbuild("get", "function", "-o", "wide")[1]
    assert "1 (ended with exit status 0, 20" in stdout
    [function] = json.loads(f"[{fnbuild('get', 'function', 'greeter', '-o', 'json')[1]}]")
    function = function[0] if isinstance(function, list) else function
    assert function["status"]["restarts"]["count"] == 1
    assert function["status"]["restarts"]["reason"] == "ended with exit status 0"
    assert fnbuild("logs", "greeter", "--previous", "-f")[0] == 2
