"""The program as a whole: help, names, global options, exit statuses, what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from fnbuild.cli import app
from fnbuild.cli.lazy import LazyGroup
from fnbuild.cli.session import GLOBAL_OPTIONS, Session
from fnbuild.errors import BuildError, ConfigError, Diagnostic, Report, Span
from fnbuild.errors import UsageError as WrongUse

Fnbuild = Callable[..., Any]

HEAVY = ("rich", "msgspec", "PIL", "yaml", "sqlite3", "asyncio", "fnbuild.spec", "fnbuild.deploy")


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
    found = []
    for name, entry in group.entries.items():
        command = entry.load()
        found += [(*path, one) for one in (name, *entry.aliases)]
        if isinstance(command, LazyGroup):
            found += _commands(command, (*path, name))
    return found


@pytest.mark.parametrize("path", _commands(app.cli), ids=" ".join)
def test_every_command_loads_and_takes_the_global_options(
    path: tuple[str, ...], fnbuild: Fnbuild
) -> None:
    shown = fnbuild(*path, "--help")
    assert shown.status == 0
    for option in GLOBAL_OPTIONS:
        assert option.opts[0] in shown.out
    again = fnbuild("help", *path)
    assert again.out.split("\n")[2:] == shown.out.split("\n")[2:]


def test_nuctl_names_are_all_there() -> None:
    names = {" ".join(path) for path in _commands(app.cli)}
    assert names >= {
        *("deploy", "build", "bu", "invoke", "version", "ver", "help", "redeploy"),
        *("get functions", "get function", "get fu", "get fn"),
        *("get projects", "get project", "get proj", "get prj"),
        *("delete function", "delete fn", "del", "delete project", "create project", "cre"),
        *("update function", "upd", "export functions", "export projects"),
        *("import functions", "import function", "import project", "beta redeploy"),
    }


def test_global_options_count_before_and_after_the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
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
    ("line", "words"),
    [
        ("delpoy", ["unknown command", 'Did you mean "deploy"?']),
        ("get functoins", ['Did you mean "functions"?']),
        ("get", ["Usage: fnbuild get"]),
        ("invoke", ["Missing argument 'NAME'"]),
        ("deploy --no-such-flag", ["--no-such-flag"]),
        ("get functions -o xml", ["xml"]),
        ("get functions --platform nowhere", ['unknown platform "nowhere"']),
        ("deploy --triggers nonsense --path .", ["--triggers is not JSON"]),
        ("deploy --path https://example.com/f.zip", ["URL"]),
        ("deploy", ["no path"]),
        ("invoke f --draw out.png", ["--draw needs a picture", "hint: --image FILE"]),
    ],
)
def test_wrong_usage_is_status_2(line: str, words: list[str], fnbuild: Fnbuild) -> None:
    done = fnbuild(*line.split())
    assert done.status == 2, done.err
    assert done.out == ""
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("line", ["build f --path . -r localhost:5000", "get fn --platform docker"])
def test_platforms_that_are_not_here_are_status_1(line: str, fnbuild: Fnbuild) -> None:
    done = fnbuild(*line.split())
    assert done.status == 1
    assert "container engine" in done.err
    assert "hint: use --platform process" in done.err


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


def test_findings_are_shown_at_their_places(
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


def test_a_reader_that_leaves_early_is_no_noise() -> None:
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
