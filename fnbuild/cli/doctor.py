"""`fnbuild doctor` and `fnbuild doctor cvat`: diagnose this machine, a cluster or a dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note
from fnbuild.cli.options import complete_function_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session
from fnbuild.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from fnbuild.platforms import Finding


_MILLISECONDS = re.compile(r"\b(\d+) ms\b")


def _complete_area(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from fnbuild.platforms.checks import AREAS

    return [
        CompletionItem(name, help=text)
        for name, text in AREAS.items()
        if name.startswith(incomplete)
    ]


class _DoctorCommand(Command):
    """`fnbuild doctor`, with the subcommand `cvat`."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == ["cvat"]:
            return cvat.make_context(f"{info_name} cvat", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_DoctorCommand)
@click.argument("areas", nargs=-1, metavar="[AREA]...", shell_complete=_complete_area)
@click.option(
    "-r",
    "--registry",
    envvar="NUCTL_REGISTRY",
    default="",
    metavar="URL",
    help="Registry to test: push a small image, and let the cluster pull it.",
)
@click.option(
    "--run-registry",
    envvar="NUCTL_RUN_REGISTRY",
    default="",
    metavar="URL",
    help="Address of the registry in the cluster, if different.",
)
@output_option()
@pass_session
@click.pass_context
def doctor(
    ctx: click.Context, session: Session, /, areas: tuple[str, ...], output: str, **flags: str
) -> None:
    """Check this machine, its container engines and the cluster, and suggest remedies.

    Without --platform, check everything that is available. An AREA is one of clock, disk, engine,
    registry, process, docker, gpu, kubeconfig, rights, nodes, node-ports, storage, nuclio, kserve
    and torchserve. The exit status is 1 if a check fails, and 0 if there are only warnings.

    `fnbuild doctor cvat --url http://HOST:8070` checks that CVAT can use a dashboard.
    """
    from fnbuild.doctor import DoctorOptions, examine_system

    platform = session.platform if _is_platform_given(ctx) else ""
    options = DoctorOptions(
        namespace=lambda name: _platform_namespace(session, name),
        platform="" if platform == "auto" else platform,
        registry=flags["registry"],
        run_registry=flags["run_registry"],
        areas=frozenset(areas),
        connect=session.connect_options,
    )
    _report_findings(ctx, session, examine_system(options), output)


def _is_platform_given(ctx: click.Context) -> bool:
    """Return True if --platform was given, before or after the command's name.

    The environment selects a platform for deploys and does not limit the diagnosis.
    """
    context: click.Context | None = ctx
    while context is not None:
        source = context.get_parameter_source("platform")
        if source is click.core.ParameterSource.COMMANDLINE:
            return True
        context = context.parent
    return False


def _platform_namespace(session: Session, platform: str) -> str:
    from fnbuild.errors import FnbuildError

    try:
        return replace(session, platform=platform).namespace
    except FnbuildError:
        # The platform reports an invalid kubeconfig in more detail.
        return DEFAULT_NAMESPACE


def _report_findings(
    ctx: click.Context,
    session: Session,
    findings: Iterable[Finding],
    output: str,
    *,
    grouped: bool = False,
) -> None:
    """Print findings as they are made and at the end; exit with 1 if one is a failure."""
    from fnbuild.cli.progress import ProgressDisplay

    collected = []
    with ProgressDisplay(whole=session.verbose) as progress:
        for finding in findings:
            # Indented lines are transient on a terminal: the table repeats the finding.
            progress(f"  {finding.area}: {finding.message}")
            collected.append(finding)
    print_findings(collected, output, grouped=grouped)
    if any(finding.state == "failure" for finding in collected):
        ctx.exit(1)


def print_findings(findings: list[Finding], output: str, *, grouped: bool) -> None:
    """Print the findings as a table or an object, and their remedies.

    With `grouped`, equal findings about several things are one row of the table.
    """
    from fnbuild.cli.output import format_table, print_value

    counts = {
        state: sum(finding.state == state for finding in findings)
        for state in ("failure", "warning")
    }
    worst = next((state for state, count in counts.items() if count), "ok")
    if output in ("json", "yaml"):
        print_value({"state": worst, "findings": [asdict(finding) for finding in findings]}, output)
        return
    wide = output == "wide"
    header = ["state", "area", "what", *(["remedy"] if wide else [])]
    if grouped:
        findings = list(_group_findings(findings))
    rows = [
        [finding.state, finding.area, finding.message, *([finding.remedy] if wide else [])]
        for finding in findings
    ]
    click.echo(format_table(header, rows))
    if not wide:
        for text in _remedies(findings):
            note(text)
    note(", ".join(count_text(count, state, "no") for state, count in counts.items()))


def _group_findings(findings: list[Finding]) -> Iterator[Finding]:
    """Merge equal findings into one that lists all their areas, in the order of the first.

    Findings that differ only in a measured time are equal; the group shows the range of the times.
    """
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        key = (finding.state, _MILLISECONDS.sub("ms", finding.message), finding.remedy)
        groups.setdefault(key, []).append(finding)
    for group in groups.values():
        times = [
            int(match[1]) for finding in group if (match := _MILLISECONDS.search(finding.message))
        ]
        message = group[0].message
        if times and min(times) != max(times):
            message = _MILLISECONDS.sub(f"{min(times)} to {max(times)} ms", message)
        areas = ", ".join(dict.fromkeys(finding.area for finding in group))
        yield replace(group[0], area=areas, message=message)


def _remedies(findings: list[Finding]) -> Iterator[str]:
    """Yield each remedy once, after its area."""
    remedies = dict.fromkeys(
        (finding.area, finding.remedy)
        for finding in findings
        if finding.remedy and finding.state != "ok"
    )
    for area, remedy in remedies:
        yield f"{click.style(area, fg='cyan')}: {remedy}"


_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


@click.command(cls=Command)
@click.option(
    "--url",
    default="http://127.0.0.1:8070",
    show_default=True,
    metavar="URL",
    help="URL of the dashboard, as CVAT uses it.",
)
@click.option(
    "--project", default="cvat", show_default=True, metavar="NAME", help="CVAT's project."
)
@click.option(
    "--function",
    default="",
    metavar="NAME",
    shell_complete=complete_function_name,
    help="Check only this function.",
)
@click.option(
    "--direct-host",
    default="",
    metavar="HOST",
    help="Host of the functions' ports.  [default: the host of the dashboard]",
)
@click.option(
    "--image",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Image to send.  [default: a generated one]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="CVAT's timeout for a reply.",
)
@output_option()
@pass_session
@click.pass_context
def cvat(ctx: click.Context, session: Session, /, output: str, **flags: Any) -> None:
    """Check that CVAT can use a dashboard and its functions, with the requests that CVAT sends.

    List the functions, get each, and call each with an image through the dashboard and directly.
    The exit status is 1 if a check fails.
    """
    from fnbuild.cvat import doctor as cvat_doctor
    from fnbuild.cvat import request
    from fnbuild.cvat.client import CvatClient

    url, image = str(flags["url"]).rstrip("/"), flags["image"]
    host = urlsplit(url).hostname or ""
    direct_host = flags["direct_host"] or ("localhost" if host in _LOOPBACK_HOSTS else host)
    client = CvatClient(url, direct_host, session.namespace, flags["project"], flags["timeout"])
    encoded = request.read_image(image) if image else cvat_doctor.sample_image()
    options = cvat_doctor.CvatDoctorOptions(client, encoded, flags["function"])
    _report_findings(ctx, session, cvat_doctor.examine_cvat(options), output, grouped=True)
