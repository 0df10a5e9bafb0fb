"""The program as a whole: help, names, global options, exit statuses, imports."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from fnbuild.cli import app
from fnbuild.cli.base_command import LazyGroup, is_switched_off
from fnbuild.cli.session import GLOBAL_OPTIONS, Session
from fnbuild.errors import BuildError, ConfigError, Diagnostic, Report, Span
from fnbuild.errors import UsageError as WrongUse

pytestmark = pytest.mark.system

Fnbuild = Callable[..., Any]

HEAVY = (
    "rich",
    "msgspec",
    "PIL",
    "yaml",
    "sqlite3",
    "asyncio",
    "fnbuild.function",
    "fnbuild.deploy.pipeline",
)


@pytest.mark.parametrize("arguments", [["--help"], ["deploy", "--help"], ["completion", "bash"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from fnbuild.cli.app import run; status = run(sys.argv[2:]);"
        "print([m for m in sys.argv[1].split() if m in sys.modules], status, file=sys.stderr)"
    )
    heavy = HEAVY if arguments[0] != "deploy" else HEAVY[:-2]
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(heavy), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[] 0"
    assert done.stdout


def test_help_lists_every_command(fnbuild: Fnbuild) -> None:
    shown = fnbuild("--help")
    assert shown.status == 0
    for name, entry in app.COMMANDS.items():
        assert f"  {name} " in shown.out
        assert entry.help in shown.out
    assert fnbuild().out == shown.out


def _commands(group: LazyGroup, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    result = []
    for name, entry in group.entries.items():
        command = entry.load()
        result += [(*path, item) for item in (name, *entry.aliases)]
        if isinstance(command, LazyGroup):
            result += _commands(command, (*path, name))
    return result


@pytest.mark.parametrize("path", _commands(app.cli), ids=" ".join)
def test_every_command_loads_and_accepts_the_global_options(
    path: tuple[str, ...], fnbuild: Fnbuild
) -> None:
    shown = fnbuild(*path, "--help")
    assert shown.status == 0
    for option in GLOBAL_OPTIONS:
        assert option.opts[0] in shown.out
    again = fnbuild("help", *path)
    assert again.out.split("\n")[2:] == shown.out.split("\n")[2:]


def test_all_names_of_nuctl_exist() -> None:
    names = {" ".join(path) for path in _commands(app.cli)}
    assert names >= {
        *("deploy", "build", "bu", "invoke", "version", "ver", "help", "redeploy"),
        *("get functions", "get function", "get fu", "get fn"),
        *("get projects", "get project", "get proj", "get prj"),
        *("delete function", "delete fn", "del", "delete project", "create project", "cre"),
        *("update function", "upd", "export functions", "export projects"),
        *("import functions", "import function", "import project", "beta redeploy"),
    }


def test_global_options_are_accepted_before_and_after_the_verb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NUCTL_NAMESPACE", "from-env")
    monkeypatch.setenv("NUCTL_PLATFORM", "local")
    for line, expected in {
        "version": ("local", "from-env", False),
        "-n a --platform kube version": ("kube", "a", False),
        "version -n b -v": ("local", "b", True),
        "-n a version -n b --platform process": ("process", "b", False),
    }.items():
        session = Session()
        app.cli.main(line.split(), standalone_mode=False, obj=session)
        assert (session.platform, session.namespace, session.verbose) == expected
    monkeypatch.setenv("FNBUILD_PLATFORM", "process")
    assert Session().platform == "process"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("delpoy", ["unknown command", 'Did you mean "deploy"?']),
        ("get functoins", ['Did you mean "functions"?']),
        ("get", ["Usage: fnbuild get"]),
        ("invoke", ["Missing argument 'NAME'"]),
        ("deploy --no-such-flag", ["--no-such-flag"]),
        ("get functions -o xml", ["xml"]),
        ("get functions --platform nowhere", ['unknown platform "nowhere"']),
        ("deploy --triggers nonsense --path .", ["--triggers is not JSON"]),
        ("deploy", ["no path"]),
        ("invoke f --draw out.png", ["--draw needs a picture", "hint: `--image FILE` gives it"]),
    ],
)
def test_wrong_usage_is_status_2(line: str, parts: list[str], fnbuild: Fnbuild) -> None:
    done = fnbuild(*line.split())
    assert done.status == 2, done.err
    assert done.out == ""
    for word in parts:
        assert word in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("build --path FOLDER --engine docker", ["docker does not answer", "systemctl start"]),
        ("get fn --platform docker", ["no container engine answers", "use `--platform process`"]),
        ("deploy --path FOLDER --platform local", ["no container engine answers"]),
        (
            "deploy f --run-image faces:1 --handler main:handler",
            ["runs folders", "`--platform local` runs images"],
        ),
        ("deploy --input-image-file f.tar", ["docker does not answer"]),
    ],
)
@pytest.mark.usefixtures("empty")
def test_missing_engine_is_status_1(
    line: str,
    arguments: list[str],
    fnbuild: Fnbuild,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    (tmp_path / "main.py").write_text("def handler(context, event):\n    return 1\n")
    (tmp_path / "function.yaml").write_text(
        "metadata: {name: alone}\nspec: {handler: main:handler, runtime: 'python:3.11'}\n"
    )
    done = fnbuild(*line.replace("FOLDER", str(tmp_path)).split())
    assert done.status == 1, done.err
    for word in arguments:
        assert word in done.err
    assert "Traceback" not in done.err


def test_an_image_without_a_handler_is_an_error(fnbuild: Fnbuild, empty: Path) -> None:
    done = fnbuild("deploy", "f", "--run-image", "faces:1")
    assert done.status == 2
    assert "`--handler MODULE:NAME`" in done.err


def _run_failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(app.cli, "main", fail)
    return app.run([])


def test_a_failure_shows_detail_then_message_then_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = BuildError("pip failed", hint="look above", detail="ERROR: no matching version\n")
    assert _run_failing(monkeypatch, error) == 1
    assert capsys.readouterr().err.splitlines() == [
        "ERROR: no matching version",
        "error: pip failed",
        "hint: look above",
    ]


def test_findings_are_shown_with_their_positions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    span = Span("function.yaml", 3, 1, 3, 5)
    report = Report([Diagnostic("error", "unknown-key", "no such key", span, "spce: 1")])
    assert _run_failing(monkeypatch, ConfigError("one error", report)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "function.yaml:3:1: error[unknown-key]: no such key"
    assert lines[-1] == "error: one error"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (WrongUse("wrong"), 2),
        (ZeroDivisionError("by zero\nmore"), 1),
    ],
)
def test_exit_statuses(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _run_failing(monkeypatch, error) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    if isinstance(error, ZeroDivisionError):
        assert captured.err == (
            "error: internal error: ZeroDivisionError: by zero (run with -v for the traceback)\n"
        )


def test_an_interrupt_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fnbuild.cli.help.version.callback", interrupted)
    assert app.run(["version"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_while_the_program_starts_is_one_line() -> None:
    code = (
        "import sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from fnbuild.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


_SIGNALLED = """
import os, signal, sys
from fnbuild import cli
from fnbuild.cli import app
def command(arguments):
    try:
        os.kill(os.getpid(), int(arguments[0]))
        return 0
    finally:
        print("cleaned up")
app.run = command
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_program_cleans_up(number: int) -> None:
    command = [sys.executable, "-c", _SIGNALLED, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", "interrupted\n")


_DEPLOY = """
import os, sys
from fnbuild import cli
from fnbuild.deploy import pipeline
number = int(sys.argv.pop())
def prepare(request):
    os.kill(os.getpid(), number)
pipeline.prepare = prepare
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_temporary_folders_of_a_deploy_are_removed(number: int, tmp_path: Path) -> None:
    scratch, data = tmp_path / "scratch", tmp_path / "data"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "FNBUILD_DATA_DIR": str(data)}

    def deploy(code: str, *more: str) -> int:
        command = [sys.executable, "-c", code, "deploy", "f", "--dry-run", "--source", "handler=1"]
        return subprocess.run([*command, *more], env=environment, check=False).returncode

    ended = deploy(_DEPLOY, str(int(number)))
    killed = number == signal.SIGKILL
    assert ended == (-signal.SIGKILL if killed else 130)
    assert len(list(scratch.iterdir())) == int(killed)
    assert deploy("from fnbuild import cli; cli.main()") == 0
    assert list(scratch.iterdir()) == []


def test_an_ignored_hangup_stays_ignored() -> None:
    command = ["nohup", sys.executable, "-c", _SIGNALLED, str(int(signal.SIGHUP))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "cleaned up\n")


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_colours_are_disabled_by_no_color_and_term(
    variables: dict[str, str], coloured: bool, tmp_path: Path
) -> None:
    """This needs a terminal; a pipe never has colours."""
    controller, terminal = os.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", **variables}
    environment["FNBUILD_DATA_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "fnbuild", "deploy"], stderr=terminal, env=environment, check=False
    )
    os.close(terminal)
    output = os.read(controller, 65536).decode()
    os.close(controller)
    assert done.returncode == 2
    assert "error" in output
    assert ("\x1b[31m" in output) is coloured


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("deploy --disable=maybe", 2, '"maybe" is neither true nor false'),
        ("logs f --tail x", 2, "'x' is not a valid integer.\n"),
        ("deploy --dry-run=yes", 2, '"yes" is neither true nor false'),
        ("deploy --disable=false --no-pull=T -d=0 --publish=1", 2, "no path was given"),
        ("delete function nobody --force=false", 0, "nobody does not exist"),
    ],
)
@pytest.mark.usefixtures("empty")
def test_switches_accept_a_value_as_in_nuctl(
    line: str, status: int, message: str, fnbuild: Fnbuild
) -> None:
    done = fnbuild(*line.split())
    assert (done.status, message in done.err) == (status, True), done.err


@pytest.mark.usefixtures("empty")
def test_the_percentage_of_a_canary_is_checked_as_an_option(fnbuild: Fnbuild) -> None:
    done = fnbuild("deploy", "--canary", "200")
    assert (done.status, "'--canary': 200 is not in the range" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("line", "disable", "off"),
    [
        ("--disable", True, False),
        ("--disable=true", True, False),
        ("--disable=false", False, True),
        ("--disable --disable=false", False, True),
        ("-d=F --disable", True, False),
        ("", False, False),
        ("-- --disable=false", False, False),
    ],
)
def test_the_last_value_of_a_switch_wins(line: str, disable: bool, off: bool) -> None:
    from fnbuild.cli.deploy import deploy

    ctx = deploy.make_context("deploy", line.split())
    assert (ctx.params["disable"], is_switched_off(ctx, "disable")) == (disable, off)


def test_deploy_without_a_path_in_a_functions_folder_proposes_the_flag(
    fnbuild: Fnbuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "`--path FOLDER`" in fnbuild("deploy").err
    (tmp_path / "function.yml").write_text("metadata: {name: f}\n")
    done = fnbuild("deploy")
    assert (done.status, "hint: `--path .` is the current folder" in done.err) == (2, True)


def test_hints_set_commands_and_flags_in_backticks() -> None:
    """Text to copy has one form; braces stand for values."""
    result = []
    for path in sorted((Path(app.__file__).parent.parent).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                text = re.sub("`[^`]*`", "", ast.unparse(node.value))
                if re.search(r"fnbuild [a-z]|(?<![\w}-])--?[a-z]", text):
                    result.append(f"{path.name}:{node.value.lineno}: {text}")
    assert result == []


def test_a_closed_pipe_causes_no_message() -> None:
    for _ in range(3):
        done = subprocess.run(
            f"{sys.executable} -m fnbuild --help | true",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("fnbuild de", {"deploy", "delete"}),
        ("fnbuild get f", {"functions"}),
        ("fnbuild init --kind d", {"detector"}),
        ("fnbuild invoke n", set()),
    ],
)
def test_the_shell_completes(typed: str, expected: set[str], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FNBUILD_DATA_DIR": str(tmp_path),
        "_FNBUILD_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from fnbuild.cli import main; main()"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stderr == ""
    assert {line.partition(",")[2] for line in done.stdout.split()} == expected
