"""The main task as users type it: real processes, from the folder to the drawn image."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fnbuild.builder import environment
from fnbuild.cli.app import run

pytestmark = pytest.mark.system

CONFIG = """\
metadata:
  name: squares
  namespace: cvat
  annotations:
    name: Squares
    type: detector
    spec: |
      [{"id": 1, "name": "square", "type": "rectangle"}]
spec:
  description: Finds one square
  handler: main:handler
  runtime: python:3.11
  triggers:
    http:
      kind: http
      numWorkers: 1
"""

CODE = """\
import json
import time

def init_context(context):
    context.user_data.calls = 0
    print("loading the model")

def handler(context, event):
    context.user_data.calls += 1
    context.logger.info("looking")
    if event.path == "/slow":
        print("taking its time")
        time.sleep(1)
    if event.path == "/lines":
        print("first\\nsecond\\nthird")
    if event.path == "/odd":
        return '[{"label": "square", "type": "rectangle", "points": [[5, 5], [20, 20]]}]'
    if event.path == "/text":
        return "no JSON at all"
    if event.path == "/fail":
        raise ValueError("cannot see")
    if not isinstance(event.body, dict):
        return "got " + type(event.body).__name__
    if "image" not in event.body:
        return {"calls": context.user_data.calls, "version": 1}
    found = [{"label": "square", "type": "rectangle", "points": [5, 5, 20, 20],
              "confidence": "0.9"}]
    return context.Response(body=json.dumps(found), content_type="application/json")
"""


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


class User:
    """A user at a shell, with their own data directory."""

    def __init__(self, home: Path):
        self.home = home
        self.folder = home / "squares"
        keep = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "XDG_CACHE_HOME")
        self.environment = {key: os.environ[key] for key in keep if key in os.environ}
        self.environment["FNBUILD_DATA_DIR"] = str(home / "data")

    def write(self, code: str = CODE, config: str = CONFIG) -> None:
        self.folder.mkdir(exist_ok=True)
        half = self.home / "half"
        for name, text in (("function.yaml", config), ("main.py", code)):
            file = self.folder / name
            # A watcher sees the new file only when it is complete.
            if not file.exists() or file.read_text() != text:
                half.write_text(text)
                half.replace(file)

    def types(self, *arguments: object, stdin: bytes | None = None, status: int = 0) -> Done:
        """Run a command line, in this process if it needs no standard input, which is faster."""
        line = [str(word) for word in arguments]
        result = self._here(line) if stdin is None else self.types_alone(*line, stdin=stdin)
        assert result.status == status, f"{arguments}: {result}"
        assert "internal error" not in result.err
        return result

    def _here(self, line: list[str]) -> Done:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch, open(os.devnull) as nothing:
            patch.chdir(self.home)
            for name in os.environ.keys() - self.environment.keys():
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            for name, stream in (("stdin", nothing), ("stdout", out), ("stderr", err)):
                patch.setattr(sys, name, stream)
            status = run(line)
        return Done(status, _text(out), _text(err))

    def types_alone(self, *arguments: str, stdin: bytes | None = None) -> Done:
        """Run a command line in a separate process, as a shell does."""
        done = subprocess.run(
            [sys.executable, "-m", "fnbuild", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=self.home,
            env=self.environment,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def starts(self, *arguments: object, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "fnbuild", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self.home,
            env=self.environment,
            start_new_session=True,
        )


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path)
    user.write()
    yield user
    user.types("down")


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A user with one running function, for commands that change nothing."""
    user = User(tmp_path_factory.mktemp("deployed"))
    user.write()
    user.types("deploy", "--path", "squares", "--project-name", "cvat")
    yield user
    user.types("down")


def test_deploy_reports_its_steps_and_prints_the_function(person: User) -> None:
    done = person.types_alone("deploy", "-p", "squares", "--project-name", "cvat", "-o", "json")
    reply = json.loads(done.out)
    assert reply["metadata"]["name"] == "squares"
    assert reply["metadata"]["namespace"] == "nuclio"
    assert reply["status"]["state"] == "ready"
    assert "created project cvat" in done.err
    assert f"squares is ready at http://127.0.0.1:{reply['status']['httpPort']}" in done.err
    again = person.types("deploy", "-p", "squares", "-o", "name")
    assert again.out == "squares\n"


def test_get_lists_it(deployed: User) -> None:
    header, row = deployed.types("get", "functions").out.splitlines()
    assert [cell.strip() for cell in header.split("|")] == [
        *("NAMESPACE", "NAME", "PROJECT", "STATE", "REPLICAS", "NODE PORT"),
    ]
    assert [cell.strip() for cell in row.split("|")][:5] == [
        *("nuclio", "squares", "cvat", "ready", "1/1"),
    ]
    item = json.loads(deployed.types("get", "fn", "squares", "-o", "json").out)
    assert item["spec"]["handler"] == "main:handler"
    assert deployed.types("get", "fn", "-n", "other").out == "No functions found\n"
    assert "No functions found: nobody" in deployed.types("get", "fn", "nobody", status=1).err
    projects = yaml.safe_load(deployed.types("get", "projects", "-o", "yaml").out)
    assert {"cvat", "default"} <= {project["meta"]["name"] for project in projects}


def test_invoke_as_nuctl_does(deployed: User) -> None:
    assert deployed.types("invoke", "squares", "-m", "GET").out.startswith("got ")
    plain = deployed.types("invoke", "squares", "-b", "{}")
    assert plain.out == "got bytes"
    assert "-c application/json" in plain.err
    done = deployed.types("invoke", "squares", "-c", "application/json", stdin=b'{"a": 1}')
    assert json.loads(done.out)["version"] == 1
    assert "looking" in done.err
    quiet = deployed.types("invoke", "squares", "-l", "none", "-b", "x")
    assert "looking" not in quiet.err


def test_a_handler_that_fails_is_reported(deployed: User) -> None:
    shown = deployed.types("invoke", "squares", "-p", "fail")
    assert "cannot see" in shown.out
    assert "500" in shown.err
    strict = deployed.types("invoke", "squares", "-p", "fail", "--raise-on-status", status=1)
    assert strict.out == ""
    assert "squares answered 500" in strict.err
    logs = deployed.types("logs", "squares", "--errors")
    assert "ValueError: cannot see" in logs.out


def test_an_image_is_sent_and_the_result_is_drawn(deployed: User) -> None:
    Image.new("RGB", (40, 30), "white").save(deployed.home / "in.png")
    command = ("invoke", "squares", "--image", "in.png")
    raw = deployed.types(*command, "--draw", "out.png")
    assert json.loads(raw.out)[0]["points"] == [5, 5, 20, 20]
    assert "1 shape drawn to out.png" in raw.err
    with Image.open(deployed.home / "out.png") as drawn:
        assert drawn.size == (40, 30)
        assert drawn.convert("RGB").getpixel((5, 12)) != (255, 255, 255)
    header, row = deployed.types(*command, "-o", "table").out.splitlines()
    assert [cell.strip() for cell in header.split("|")] == ["LABEL", "TYPE", "CONFIDENCE", "POINTS"]
    assert [cell.strip() for cell in row.split("|")] == ["square", "rectangle", "0.90", "5,5 20,20"]
    failed = deployed.types(*command, "-p", "fail", status=1)
    assert "cannot see" in failed.err
    flat = deployed.types(*command, "-o", "json").out
    assert '"points": [5, 5, 20, 20]' in flat
    assert json.loads(flat) == json.loads(raw.out)


@pytest.mark.parametrize("output", ["raw", "json", "table"])
@pytest.mark.parametrize("path", ["odd", "text"])
def test_a_reply_that_cvat_would_refuse_is_a_failure(
    path: str, output: str, deployed: User
) -> None:
    Image.new("RGB", (40, 30), "white").save(deployed.home / "in.png")
    command = ("invoke", "squares", "-p", path, "-o", output)
    seen = deployed.types(*command, "--image", "in.png", status=1)
    assert re.search(r"^error\[[a-z-]+\]: ", seen.err, re.MULTILINE)
    assert seen.out
    if output != "table":
        # Without an image there is no detection.
        deployed.types(*command)


def test_invalid_images_are_failures_and_not_usage_errors(deployed: User) -> None:
    Image.new("RGB", (40, 30), "white").save(deployed.home / "in.png")
    (deployed.home / "text.png").write_text("no picture")
    for flags, output in (
        ("--image missing.png", "no such image file"),
        ("--image text.png", "is not an image"),
        ("--image in.png --draw nowhere/out.png", "does not exist: nowhere"),
        ("--image in.png --states text.png", "--states text.png cannot be read"),
    ):
        assert output in deployed.types("invoke", "squares", *flags.split(), status=1).err
    command = ("invoke", "squares", "--image", "in.png")
    assert "out.xyz" in deployed.types(*command, "--draw", "out.xyz", status=2).err
    nan = deployed.types(*command, "--threshold", "nan", status=2)
    assert "--threshold nan is no number" in nan.err
    high = deployed.types(*command, "--threshold", "90")
    assert "warning: --threshold 90: confidences are from 0 to 1" in high.err


def test_the_error_for_an_unknown_name_suggests_a_similar_one(deployed: User) -> None:
    for verb in ("invoke", "logs", "history", "redeploy", "rollback", "get fn", "export fn"):
        missed = deployed.types(*verb.split(), "sqares", status=1)
        assert 'hint: did you mean "squares"?' in missed.err, verb
        elsewhere = deployed.types(*verb.split(), "squares", "-n", "cvat", status=1)
        assert "hint: it is in namespace nuclio: `-n nuclio`" in elsewhere.err, verb
    assert (
        "`fnbuild get functions -n cvat` lists"
        in deployed.types("logs", "x", "-n", "cvat", status=1).err
    )


def test_a_dry_run_names_what_each_step_changes(deployed: User) -> None:
    command = ("deploy", "-p", "squares", "--project-name", "cvat", "--desc", "newer", "--dry-run")
    steps = json.loads(deployed.types(*command, "-o", "json").out)
    assert steps == yaml.safe_load(deployed.types(*command, "-o", "yaml").out)
    function = steps[0]
    assert (function["verb"], function["target"]) == ("update", "function squares")
    assert function["before"]["spec"]["description"] == "Finds one square"
    assert function["after"]["spec"]["description"] == "newer"
    assert {step["target"] for step in steps} >= {"revision", "port", "processor"}


def test_logs_show_what_the_handler_printed(deployed: User) -> None:
    assert "loading the model" in deployed.types("logs", "squares").out
    records = [
        json.loads(line)
        for line in deployed.types("logs", "squares", "--since", "1h").out.split("\n")
        if line
    ]
    assert all(record["time"] > 1e12 for record in records)
    deployed.types("invoke", "squares", "-p", "lines")
    looking, *block = deployed.types("logs", "squares", "-o", "human").out.splitlines()[-4:]
    assert re.search(r" \(I\) w0 #[0-9a-f]{8} looking$", looking)
    assert block[0].endswith(" (I) w0 first")
    assert block[1:] == [" " * block[0].index("first") + word for word in ("second", "third")]
    last = deployed.types("logs", "squares", "--tail", 1, "-o", "json").out.splitlines()
    assert [json.loads(line)["message"] for line in last] == ["third"]
    assert "nobody" in deployed.types("logs", "nobody", status=1).err


def test_a_revision_that_fails_and_a_rollback(person: User) -> None:
    person.types("deploy", "-p", "squares")
    person.write(CODE.replace('"version": 1', '"version": 2'))
    changes = person.types("diff", "-p", "squares")
    assert "+" in changes.out
    plan = person.types("deploy", "-p", "squares", "--dry-run")
    assert "update" in plan.out
    person.types("deploy", "-p", "squares")
    assert person.types("diff", "-p", "squares").out == ""
    person.types("diff", "-p", "squares", "--exit-code")
    assert "does not exist" in person.types("diff", "-p", "none", "--exit-code", status=2).err

    person.write("import nowhere_to_be_found\n")
    failed = person.types("deploy", "-p", "squares", status=1)
    assert "nowhere_to_be_found" in failed.err.split("error: ")[0]
    assert "revision 2 goes on serving" in failed.err
    rows = person.types("history", "squares").out.splitlines()[1:]
    states = [row.split("|")[1].strip() for row in rows]
    assert states == ["failed", "active", "superseded"]

    person.types("rollback", "squares")
    command = person.types("invoke", "squares", "-b", "{}", "-c", "application/json")
    assert json.loads(command.out)["version"] == 1
    history = json.loads(person.types("history", "squares", "-o", "json").out)
    assert [item["state"] for item in history].count("active") == 1


def test_export_delete_import_and_deploy_again(person: User) -> None:
    person.types("deploy", "-p", "squares", "-e", "COLOUR=blue")
    text = person.types("export", "functions", "squares").out
    exported = yaml.safe_load(text)
    assert exported["metadata"]["annotations"]["skip-deploy"] == "true"
    assert exported["metadata"]["annotations"]["nuclio.io/previous-state"] == "ready"
    assert "namespace" not in exported["metadata"]
    assert "deleted squares" in person.types("delete", "function", "squares").err
    assert "does not exist" in person.types("del", "fn", "squares").err

    imported = person.types("import", "functions", stdin=text.encode())
    assert "imported squares" in imported.err
    assert "imported" in person.types("get", "functions").out
    refused = person.types("invoke", "squares", status=1)
    assert "fnbuild deploy" in refused.err
    person.types("deploy", "squares", "-p", "squares")
    assert "ready" in person.types("get", "functions").out


def test_update_joins_flags_to_the_stored_function(person: User) -> None:
    person.types("deploy", "-p", "squares")
    person.types("update", "function", "squares", "--env", "COLOUR=red", "--desc", "red ones")
    spec = json.loads(person.types("get", "fn", "squares", "-o", "json").out)["spec"]
    assert spec["env"] == [{"name": "COLOUR", "value": "red"}]
    assert spec["description"] == "red ones"
    assert "red ones" in person.types("deploy", "squares", "--dry-run", "-o", "yaml").out


def test_a_disabled_function_is_enabled_again_without_its_folder(person: User) -> None:
    person.types("deploy", "-p", "squares")
    remedy = "it is disabled; `fnbuild update function squares --disable=false` runs it again"
    assert remedy in person.types("update", "function", "squares", "--disable").err
    assert remedy in person.types("invoke", "squares", status=1).err
    assert remedy in person.types("redeploy", "squares").err
    same = person.types("update", "function", "squares")
    assert "is still disabled" in same.err
    assert (
        "squares is ready" in person.types("update", "function", "squares", "--disable=false").err
    )
    person.types("invoke", "squares")
    # The flag has precedence over the file, too.
    person.write(config=CONFIG + "  disable: true\n")
    assert "squares is standby" in person.types("deploy", "-p", "squares").err
    assert "squares is ready" in person.types("deploy", "-p", "squares", "--disable=false").err


def test_functions_come_back_after_down_and_up(person: User) -> None:
    port = json.loads(person.types("deploy", "-p", "squares", "-o", "json").out)["status"]
    person.types("down")
    refused = person.types("invoke", "squares", status=1)
    assert "fnbuild up" in refused.err
    person.types("up")
    again = json.loads(person.types("get", "fn", "squares", "-o", "json").out)["status"]
    assert again["httpPort"] == port["httpPort"]
    person.types("invoke", "squares", "-b", "x")
    assert "squares is ready" in person.types("redeploy", "squares").err


def test_projects(person: User) -> None:
    assert "created project p" in person.types("create", "project", "p", "--owner", "me").err
    assert "exists already" in person.types("create", "project", "p").err
    exported = yaml.safe_load(person.types("export", "projects", "p").out)
    assert exported["project"]["spec"] == {"owner": "me"}
    person.types("deploy", "-p", "squares", "--project-name", "p")
    assert "squares" in person.types("delete", "project", "p", status=1).err
    assert "squares" in person.types("del", "proj", "p", "--strategy", "check", status=1).err
    person.types("delete", "project", "p", "--strategy", "cascading")
    assert person.types("get", "functions").out == "No functions found\n"


def test_inline_source(person: User) -> None:
    code = "def handler(context, event):\n    return 'inline'\n"
    person.types("deploy", "one-liner", "--source", code, "--runtime", "python:3.11")
    assert person.types("invoke", "one-liner").out == "inline"
    exported = person.types("export", "functions", "one-liner").out
    person.types("delete", "function", "one-liner")
    person.types("import", "functions", stdin=exported.encode())
    person.types("deploy", "one-liner")
    assert person.types("invoke", "one-liner").out == "inline"


class Watched:
    """A function in the foreground, and its output."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self.process = process
        self.output = ""

    def wait_for_output(self, expected: str, seconds: float = 180.0) -> str:
        """Wait for the text; return all output since the last call."""
        deadline = time.monotonic() + seconds
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        while expected not in self.output:
            assert time.monotonic() < deadline, f"no {expected!r} in the output:\n{self.output}"
            if select.select([pipe], [], [], 0.1)[0]:
                output = os.read(pipe, 65536)
                assert output, f"ended without {expected!r} in the output:\n{self.output}"
                self.output += output.decode()
        text, self.output = self.output, ""
        return text


@pytest.fixture
def watched(person: User) -> Iterator[Callable[..., Watched]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> Watched:
        running.append(person.starts("run", *arguments))
        return Watched(running[-1])

    yield start
    for process in running:
        process.terminate()
        process.wait(120)
        assert process.stdout is not None
        process.stdout.close()


def _ask(url: str, path: str = "/") -> Any:
    request = urllib.request.Request(url + path, b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def _url(text: str) -> str:
    return text.split(" is ready at ")[1].split(maxsplit=1)[0]


def test_run_serves_the_folder_and_drains_on_ctrl_c(
    person: User, watched: Callable[..., Watched]
) -> None:
    running = watched("squares")
    output = running.wait_for_output("Ctrl-C stops it")
    if "loading the model" not in output:
        output += running.wait_for_output('loading the model"')
    line = next(line for line in output.splitlines() if "loading the model" in line)
    # JSON as in `fnbuild logs`, since the output is no terminal.
    assert json.loads(line)["message"] == "loading the model"
    url = _url(output)
    assert _ask(url) == {"calls": 1, "version": 1}
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(_ask, url, "/slow")
        running.wait_for_output("taking its time")
        # As from a terminal: to every process of the group.
        os.killpg(running.process.pid, signal.SIGINT)
        assert slow.result() == {"calls": 2, "version": 1}
    assert running.process.wait(120) == 0


def test_run_writes_readable_lines_on_request(
    person: User, watched: Callable[..., Watched]
) -> None:
    output = watched("squares", "-o", "human").wait_for_output("loading the model\n")
    assert re.search(r"^[0-9:]{8}\.[0-9]{3} \(I\) w0 loading the model$", output, re.MULTILINE)


@pytest.mark.parametrize("verb", [("run", "squares"), ("logs", "squares", "-f")])
def test_run_writes_readable_lines_to_a_terminal(deployed: User, verb: tuple[str, ...]) -> None:
    controller, terminal = os.openpty()
    process = deployed.starts(*verb, stdout=terminal)
    os.close(terminal)
    output = ""
    deadline = time.monotonic() + 180
    while "loading the model" not in output:
        assert time.monotonic() < deadline, output
        if select.select([controller], [], [], 0.1)[0]:
            output += os.read(controller, 65536).decode()
    process.terminate()
    process.wait(120)
    os.close(controller)
    assert re.search(r"[0-9:]{8}\.[0-9]{3} \(I\) w0 loading the model", output)


def test_a_killed_run_leaves_no_processes(person: User, watched: Callable[..., Watched]) -> None:
    running = watched("squares")
    url = _url(running.wait_for_output("is ready at"))
    running.process.kill()
    deadline = time.monotonic() + 120
    while True:
        try:
            _ask(url)
        except OSError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_next_run_removes_the_remains_of_a_killed_one(
    person: User, watched: Callable[..., Watched]
) -> None:
    scratch = person.home / "scratch"
    scratch.mkdir()
    person.environment["TMPDIR"] = str(scratch)
    first = watched("squares")
    first.wait_for_output("Ctrl-C stops it")
    (remains,) = scratch.glob("fnbuild-run-*")
    second = watched("squares", "--port", 0)
    second.wait_for_output("Ctrl-C stops it")
    assert remains.is_dir()
    first.process.kill()
    first.process.wait(120)
    watched("squares", "--port", 0).wait_for_output("Ctrl-C stops it")
    assert not remains.exists()


def test_watch_swaps_code_and_keeps_the_model(
    person: User, watched: Callable[..., Watched]
) -> None:
    running = watched("--path", "squares", "--watch")
    url = _url(running.wait_for_output("Ctrl-C stops it"))
    assert _ask(url) == {"calls": 1, "version": 1}

    person.write(CODE.replace('"version": 1', '"version": 2'))
    running.wait_for_output("reloaded in")
    assert _ask(url) == {"calls": 2, "version": 2}

    person.write(CODE.replace("def handler", "def handler((("))
    assert "SyntaxError" in running.wait_for_output("error: the change does not load")
    assert _ask(url) == {"calls": 3, "version": 2}

    person.write(CODE.replace('"version": 1', '"version": 3'))
    running.wait_for_output("reloaded in")
    (person.folder / "helper.txt").write_text("any other file")
    running.wait_for_output("restarted the workers in")
    assert _ask(url) == {"calls": 1, "version": 3}


def test_watch_repeats_init_context_if_it_has_changed(
    person: User, watched: Callable[..., Watched]
) -> None:
    running = watched("squares", "--watch")
    url = _url(running.wait_for_output("Ctrl-C stops it"))
    assert _ask(url) == {"calls": 1, "version": 1}
    person.write(CODE.replace("calls = 0", "calls = 10"))
    output = running.wait_for_output("init_context or what it uses has changed")
    assert "reloaded" not in output
    assert _ask(url) == {"calls": 11, "version": 1}


def test_foreground_function_is_listed_and_invoked(
    person: User, watched: Callable[..., Watched]
) -> None:
    Image.new("RGB", (40, 30), "white").save(person.home / "in.png")
    running = watched("squares")
    url = _url(running.wait_for_output("Ctrl-C stops it"))
    process = running.process.pid
    listed = person.types("get", "functions")
    assert re.search(r"squares +\| default +\| ready +\| 1/1 +\| ", listed.out)
    assert f"it runs in the foreground (`fnbuild run`, process {process})" in listed.err
    for target in (["squares"], ["--url", url]):
        drawn = person.types("invoke", *target, "--image", "in.png", "--draw", "out.png")
        assert json.loads(drawn.out)[0]["label"] == "square"
        assert "asked as a detector" not in drawn.err
        (person.home / "out.png").unlink()
    for command in (["logs", "squares"], ["delete", "function", "squares"]):
        refused = person.types(*command, status=1)
        assert "squares is not deployed: it runs in the foreground" in refused.err
    # A deployed function has precedence.
    person.types("deploy", "--path", "squares")
    assert "foreground" not in person.types("get", "functions").err
    person.types("delete", "function", "squares")
    running.process.kill()
    running.process.wait(120)
    assert person.types("get", "functions").out == "No functions found\n"
    assert list((person.home / "data/foreground").iterdir()) == []


def test_a_url_without_a_function_name_is_invoked(
    person: User, watched: Callable[..., Watched], tmp_path: Path
) -> None:
    url = _url(watched("squares").wait_for_output("Ctrl-C stops it"))
    person.environment["FNBUILD_DATA_DIR"] = str(tmp_path / "other")
    assert person.types("invoke", "--url", url, "-b", "x").out == "got bytes"
    assert "Missing argument 'NAME'" in person.types("invoke", status=2).err
    assert "starts with http" in person.types("invoke", "--url", "squares:80", status=2).err


def test_run_repeats_the_drawing_at_every_save(
    person: User, watched: Callable[..., Watched]
) -> None:
    Image.new("RGB", (40, 30), "white").save(person.home / "in.png")
    # A drawing in the folder does not count as a change of the function.
    out = person.folder / "out.png"
    # An absolute path is not a valid image name of a function.
    picture = str(person.home / "in.png")
    running = watched("squares", "--image", picture, "--draw", "squares/out.png")
    running.wait_for_output("drawn to squares/out.png\n")
    before = out.read_bytes()
    person.write(CODE.replace("[5, 5, 20, 20]", "[5, 5, 30, 20]"))
    output = running.wait_for_output("drawn to squares/out.png\n")
    assert re.search(r"1 shape in \d+ ms, drawn to", output)
    assert out.read_bytes() != before
    person.write(CODE.replace("[5, 5, 20, 20]", "[5, 5][9]"))
    running.wait_for_output("error: the function answered 500")
    person.write(CODE.replace("    found = ", "    found = 2 * "))
    output = running.wait_for_output("drawn to squares/out.png\n")
    assert "2 shapes in" in output
    assert output.count("changed: ") == 1
    assert "--draw needs a picture" in person.types("run", "--draw", "x.png", status=2).err


def test_watch_keeps_the_old_configuration_while_the_new_one_is_invalid(
    person: User, watched: Callable[..., Watched]
) -> None:
    running = watched("squares", "--watch")
    url = _url(running.wait_for_output("Ctrl-C stops it"))
    person.write(config=CONFIG.replace("main:handler", "main:other") + "  eventTimeout: soon\n")
    assert "function.yaml:" in running.wait_for_output("error[duration]")
    assert _ask(url)["version"] == 1
    code = CODE.replace("def handler", "def other").replace('"version": 1', '"version": 4')
    person.write(code, CONFIG.replace("main:handler", "main:other"))
    assert _url(running.wait_for_output("Ctrl-C stops it")) == url
    assert _ask(url)["version"] == 4


def test_foreground_function_keeps_its_environment(
    person: User, watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = watched("squares")
    running.wait_for_output("Ctrl-C stops it")
    monkeypatch.setenv("FNBUILD_DATA_DIR", person.environment["FNBUILD_DATA_DIR"])
    paths: list[str] = []

    def used() -> set[Path]:
        paths.append("now")
        return set()

    environment.prune_environments(used)
    assert paths == []


def test_run_without_watch_ends_if_the_model_does_not_load(person: User) -> None:
    person.write(CODE.replace('print("loading the model")', 'raise ValueError("no weights")'))
    failed = person.types_alone("run", "squares")
    assert failed.status == 1
    assert "ValueError: no weights" in failed.err + failed.out
    assert "error: squares did not become ready" in failed.err
