"""`fnbuild check`: send a function the requests of its kind, and report what CVAT would misread."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.options import complete_function_name, file_option, variant_option
from fnbuild.cli.session import Session, pass_session
from fnbuild.function.labels import FUNCTION_KINDS

if TYPE_CHECKING:
    from fnbuild.cvat.check.examination import CheckResult
    from fnbuild.cvat.check.probe import Target
    from fnbuild.errors import Report
    from fnbuild.function.types import Function

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FORMATS = ["text", "table", "wide", "json", "yaml", "sarif", "junit"]


@click.command(cls=Command)
@click.argument("target", metavar="PATH|NAME|URL", shell_complete=complete_function_name)
@click.option("--kind", type=click.Choice(FUNCTION_KINDS), help="[default: the annotation `type`]")
@click.option("--picture", type=_FILE, multiple=True, help="Send this picture too. Repeatable.")
@click.option("--skip", multiple=True, metavar="NAME", help="Leave a picture out. Repeatable.")
@click.option("--recorded", is_flag=True, help="Check the recorded replies; send no request.")
@click.option("--fix", is_flag=True, help="Repair function.yaml where there is one remedy.")
@click.option("--strict", is_flag=True, help="Fail for warnings, too.")
@click.option(
    "-t",
    "--timeout",
    metavar="DURATION",
    default="120s",
    show_default=True,
    help="Time limit of each request; the default is CVAT's.",
)
@file_option
@variant_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="Output format.",
)
@pass_session
@click.pass_context
def check(ctx: click.Context, session: Session, /, target: str, **flags: Any) -> None:
    """Send a function the requests that CVAT sends, and report what CVAT would misread.

    A function in a folder is started for the check. A deployed function, or an address, gets the
    requests as it runs. The pictures have odd sizes, modes and encodings; other requests are
    invalid, and the function must refuse them. docs/check.md lists the rules.

    With --recorded, check the replies that a deployed function has recorded (`fnbuild record`).

    The exit status is 1 if there are errors.
    """
    from fnbuild.cvat.check.pictures import picture_names
    from fnbuild.errors import UsageError

    unknown = [name for name in flags["skip"] if name not in picture_names()]
    if unknown:
        hint = f"the pictures are {', '.join(picture_names())}"
        raise UsageError(f"--skip {unknown[0]}: there is no such picture", hint=hint)
    with ExitStack() as stack:
        is_url = target.startswith(("http://", "https://"))
        if flags["recorded"] and is_url:
            raise UsageError("--recorded needs the name of a deployed function, not a URL")
        if flags["recorded"]:
            opened = _open_deployed(stack, session, target, None, flags)
        elif is_url:
            opened = _open_deployed(stack, session, None, target, flags)
        elif Path(target).exists() or "/" in target:
            opened = _open_folder(stack, session, Path(target), flags)
        else:
            opened = _open_deployed(stack, session, target, None, flags)
        result = _examine(opened, flags)
    _print_result(result, opened, flags)
    errors, warnings = result.count("error"), result.count("warning")
    requests = count_text(len(result.cases), "request")
    counts = f"{count_text(errors, 'error')}, {count_text(warnings, 'warning')}"
    note(f"{result.name or target}: {requests}, {counts}")
    if errors or (flags["strict"] and warnings):
        ctx.exit(1)


@dataclass(frozen=True, slots=True)
class _OpenedFunction:
    """A function to check. `target` is None if its configuration has errors."""

    function: Function
    target: Target | None
    report: Report
    file: str = "function.yaml"
    has_spec: bool = True
    recording: Path | None = None
    """The folder of the recorded requests, if they are checked."""


def _open_folder(
    stack: ExitStack, session: Session, path: Path, flags: dict[str, Any]
) -> _OpenedFunction:
    """Start the function of a folder, until the stack is closed."""
    from fnbuild.builder import environment
    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cli.run import prepare_to_run
    from fnbuild.deploy.pipeline import DeployRequest, prepare
    from fnbuild.function import reader
    from fnbuild.function.repair import repair_file
    from fnbuild.function.types import Function
    from fnbuild.platforms.access import token_headers
    from fnbuild.platforms.process.foreground import ForegroundProcessor

    config_file, variant = flags["config_file"], flags["variant"]
    if flags["fix"]:
        for change in repair_file(config_file or path):
            note(f"fixed {change}")
    _, report = reader.check_function(path, code=True, config_file=config_file, variant=variant)
    if report.errors:
        return _OpenedFunction(Function(), None, report, str(path))
    request = DeployRequest(path, None, config_file, session.namespace, variant=variant)
    stack.enter_context(environment.keep_environments())
    loaded, config = prepare_to_run(prepare(request))
    processor = stack.enter_context(
        ForegroundProcessor(config, "127.0.0.1", 0, lambda _record: None, listed=False)
    )
    processor.start()
    processor.wait_ready()
    headers = token_headers(loaded.function)
    target = Endpoint(
        processor.url, headers, _seconds(flags), lambda: processor.reload(restart=True)
    )
    file = str(loaded.config_path or path)
    return _OpenedFunction(loaded.function, target, report, file)


def _open_deployed(
    stack: ExitStack, session: Session, name: str | None, url: str | None, flags: dict[str, Any]
) -> _OpenedFunction:
    """Return a deployed function by its name, or the function at a URL."""
    from tempfile import TemporaryDirectory

    from fnbuild.cli.endpoint import Endpoint
    from fnbuild.cli.invocation import check_invocable
    from fnbuild.cli.invoke import check_address, deployment_to_call, needed_headers
    from fnbuild.errors import Report, UsageError
    from fnbuild.function.rules import check_cvat_annotations
    from fnbuild.platforms.recordings import read_recording

    if flags["fix"]:
        raise UsageError("--fix repairs a function.yaml", hint="name its folder instead")
    if url is not None:
        check_address("URL", url)
    platform = session.connect()
    deployment = deployment_to_call(platform, session.namespace, name, url)
    if flags["recorded"]:
        report = check_cvat_annotations(deployment.function)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="fnbuild-recording-")))
        read_recording(platform, session.namespace, deployment.name, folder)
        return _OpenedFunction(deployment.function, None, report, recording=folder)
    if url is None:
        url = stack.enter_context(platform.reachable_url(deployment))
        check_invocable(deployment, url)
    headers = needed_headers(platform, deployment, url if name is None else None)
    function, is_known = deployment.function, bool(deployment.name)
    report = check_cvat_annotations(function) if is_known else Report()
    target = Endpoint(url, headers, _seconds(flags))
    return _OpenedFunction(function, target, report, has_spec=is_known)


def _seconds(flags: dict[str, Any]) -> float:
    from fnbuild.errors import UsageError
    from fnbuild.function.quantities import parse_duration

    try:
        seconds = parse_duration(flags["timeout"])
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error
    if seconds <= 0:
        raise UsageError(f"--timeout {flags['timeout']}: it must be above zero")
    return seconds


def _examine(opened: _OpenedFunction, flags: dict[str, Any]) -> CheckResult:
    """Check the configuration and, if it has no errors, the replies."""
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.cvat.check.examination import CheckResult, examine
    from fnbuild.cvat.check.findings import FindingCollector
    from fnbuild.cvat.check.probe import Subject
    from fnbuild.cvat.check.recorded import examine_recording
    from fnbuild.errors import UsageError
    from fnbuild.function.labels import function_kind
    from fnbuild.function.record_settings import record_settings

    collector = FindingCollector()
    for diagnostic in opened.report:
        if diagnostic.severity == "error" or diagnostic.rule.startswith(("cvat-", "label-")):
            collector.add_diagnostic(diagnostic)
    name = opened.function.metadata.name
    kind = flags["kind"] or function_kind(opened.function)
    result = CheckResult(name, kind or "")
    if opened.target is None and opened.recording is None:
        note("the function was not started: its configuration has errors")
        result.findings = collector.findings
        return result
    if kind is None:
        raise UsageError(
            "the function has no annotation `type`, so its kind is not known",
            hint=f"`--kind` sets it: {', '.join(FUNCTION_KINDS)}",
        )
    subject = Subject(opened.function, kind, opened.has_spec)
    if opened.recording is not None:
        result = examine_recording(subject, opened.recording)
        if not result.cases:
            hint = f"; `fnbuild update function {name} --record` turns recording on"
            is_on = record_settings(opened.function) is not None
            warn(f"there is no recorded request of CVAT{'' if is_on else hint}")
    elif opened.target is not None:
        with ProgressDisplay() as progress:
            result = examine(
                subject,
                opened.target,
                lambda case: progress(f"  {case}"),
                flags["picture"],
                flags["skip"],
            )
    result.findings[:0] = collector.findings
    return result


def _print_result(result: CheckResult, opened: _OpenedFunction, flags: dict[str, Any]) -> None:
    from fnbuild.cli.output import escape_control_characters, format_table, print_value
    from fnbuild.cvat.check import formats

    output = flags["output"]
    match output:
        case "text":
            for line in formats.render_text(result).splitlines():
                click.echo(escape_control_characters(line))
        case "table" | "wide":
            click.echo(format_table(*formats.table_rows(result, wide=output == "wide")))
        case "sarif":
            document = formats.render_sarif(result, opened.file)
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        case "junit":
            click.echo(formats.render_junit(result, strict=flags["strict"]))
        case _:
            print_value(formats.result_object(result), output)
