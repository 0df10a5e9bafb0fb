"""Options that several commands share, and the completion of names.

The options have nuctl's names, in camel case where nuctl uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click import option

from fnbuild.cli.session import Session
from fnbuild.errors import FnbuildError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SERVICE_TYPES = click.Choice(["ClusterIP", "NodePort", "LoadBalancer"])

variant_option = option(
    "--variant", metavar="NAME", help="Overlay over the file: gpu, cpu, your own, or a path."
)

file_option = option(
    "-f",
    "--file",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file. [default: PATH/function.yaml]",
)

keep_failed_option = option(
    "--keep-failed", is_flag=True, help="Keep the pods of a failed revision in the cluster."
)
force_conflicts_option = option(
    "--force-conflicts", is_flag=True, help="Overwrite changes by others in the cluster."
)

protocols_option = option(
    "--protocols", metavar="NAME,…", help="Protocols to serve: v1, v2, grpc, torchserve."
)

_SOURCE = [
    option(
        "-p", "--path", metavar="PATH", help="Folder, function.yaml, source file, archive or URL."
    ),
    option("--source", metavar="TEXT", help="Source code of the handler, as text or base64."),
    file_option,
    variant_option,
]

_BUILD = [
    option("-i", "--image", metavar="NAME", help="Name of the image to build."),
    option("-r", "--registry", envvar="NUCTL_REGISTRY", metavar="URL", help="Registry to push to."),
    option("--runtime", metavar="NAME", help="Runtime, such as python:3.11."),
    option("--handler", metavar="MODULE:NAME", help="The handler, such as main:handler."),
    option("--no-pull", is_flag=True, help="Do not pull base images."),
    option("--no-cache", is_flag=True, help="Do not use the build cache."),
    option("--build-arg", multiple=True, metavar="NAME=VALUE", help="Build argument. Repeatable."),
    option("--no-cleanup", is_flag=True, help="Keep the build's temporary folder."),
    option("--offline", is_flag=True, help="Build without the network."),
    option("--base-image", metavar="NAME", help="Base image."),
    option("--onbuild-image", metavar="NAME", help="Onbuild image."),
    option("--build-command", multiple=True, metavar="CMD", help="Build command. Repeatable."),
    option("--build-runtime-attrs", metavar="JSON", help="Build attributes of the runtime."),
    option("--build-code-entry-attrs", metavar="JSON", help="Code entry attributes."),
    option("--code-entry-type", metavar="TYPE", help="archive, git, github, s3, …"),
]


def _number_option(
    name: str, text: str, maximum: int | None = None
) -> Callable[[Decorated], Decorated]:
    kind = int if maximum is None else click.IntRange(-1, maximum)
    return option(name, type=kind, default=-1, metavar="N", help=text)


_CONFIGURATION = [
    option("--desc", metavar="TEXT", help="Description."),
    option("-l", "--labels", metavar="K=V,…", help="Labels of the function."),
    option("--annotations", metavar="K=V,…", help="Annotations of the function."),
    option(
        "-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment variable. Repeatable."
    ),
    option(
        "--secret-env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Environment variable with a secret value. Repeatable.",
    ),
    option("-d", "--disable", is_flag=True, help="Deploy without running it."),
    option("--triggers", metavar="JSON", help="Triggers by name, merged over the file's."),
    protocols_option,
    option("--platform-config", metavar="JSON", help="Merged over spec.platform."),
    option("--data-bindings", metavar="JSON", help="Data bindings by name."),
    option("--runtime-attrs", metavar="JSON", help="Attributes of the runtime."),
    option(
        "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Mount a host path. Repeatable."
    ),
    option(
        "--resource-limit", multiple=True, metavar="NAME=QTY", help="Resource limit. Repeatable."
    ),
    option(
        "--resource-request",
        multiple=True,
        metavar="NAME=QTY",
        help="Resource request. Repeatable.",
    ),
    _number_option("--replicas", "Fixed number of replicas."),
    _number_option("--min-replicas", "Minimum number of replicas."),
    _number_option("--max-replicas", "Maximum number of replicas."),
    option(
        "--idle-timeout",
        metavar="DURATION",
        help="Time without a request after which the workers sleep, such as 10m; 0: never.",
    ),
    option(
        "--sleep-level",
        type=click.Choice(["exit", "offload"]),
        help="exit ends sleeping workers; offload calls the handler's sleep(context).",
    ),
    option(
        "--record",
        metavar="SIZE",
        is_flag=False,
        flag_value="true",
        help="Keep requests and replies for `fnbuild replay`, up to this size; false: none.",
    ),
    option("--record-age", metavar="DURATION", help="The largest age of recorded requests."),
    option("--gpu-group", metavar="NAME", help="Share the memory of a GPU with this group."),
    option("--gpu-group-awake", metavar="N", help="Functions of the group that may be awake."),
    option("--gpu-group-memory", metavar="QTY", help="Memory that the awake ones may use."),
    option("--gpu-memory", metavar="QTY", help="Memory of the function; default: measured."),
    option(
        "--gpu-group-permanent",
        is_flag=True,
        default=None,
        flag_value="true",
        help="Do not sleep for others of the group.",
    ),
    option("--workers-per-device", metavar="N", help="Workers that get the same GPU."),
    _number_option("--target-cpu", "Target CPU utilization of autoscaling, in percent."),
    _number_option(
        "--canary",
        "Percentage of requests for the new revision; 100 is all (KServe).",
        maximum=100,
    ),
    option(
        "--expose-management",
        is_flag=True,
        help="Add the management port to the Service for clients (TorchServe).",
    ),
    _number_option("--readiness-timeout", "Seconds to wait until the function is ready."),
    _number_option("--run-as-user", "User id of the processes."),
    _number_option("--run-as-group", "Group id of the processes."),
    _number_option("--fsgroup", "Group id of mounted volumes."),
    option(
        "--nodeSelector", "node_selector", metavar="K=V,…", help="Labels of the nodes to run on."
    ),
    option("--nodeName", "node_name", metavar="NAME", help="Node to run on."),
    option("--priorityClassName", "priority_class_name", metavar="NAME", help="Priority class."),
    option("--preemptionPolicy", "preemption_policy", metavar="NAME", help="Preemption policy."),
    option(
        "--http-trigger-service-type",
        type=SERVICE_TYPES,
        envvar="NUCTL_DEFAULT_SERVICE_TYPE",
        help="Type of the Kubernetes service.",
    ),
    option("--hardened", is_flag=True, help="Pods without root, with a read-only file system."),
    option(
        "--allow-from",
        multiple=True,
        metavar="NAMESPACE",
        help="Other namespace that may call a hardened function; '*' for all. Repeatable.",
    ),
    option("--run-image", metavar="NAME", help="Deploy this image instead of building one."),
    option(
        "--run-registry", envvar="NUCTL_RUN_REGISTRY", metavar="URL", help="Registry to pull from."
    ),
    option("--logger-level", metavar="LEVEL", help="Log level of the function."),
    option("--publish", is_flag=True, help="Accepted for compatibility; has no effect."),
]


def combine_options(*options: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds several options, listed in this order."""

    def decorate(function: Decorated) -> Decorated:
        for add_option in reversed(options):
            function = add_option(function)
        return function

    return decorate


source_options = combine_options(*_SOURCE)
build_options = combine_options(*_BUILD)
configuration_options = combine_options(*_CONFIGURATION)


def report_options(default: str) -> Callable[[Decorated], Decorated]:
    """Return the options for the report of a batch; `default` is its file."""
    return combine_options(
        option("--save-report", is_flag=True, help="Write a report as JSON."),
        option(
            "--report-file-path",
            type=click.Path(path_type=Path, dir_okay=False),
            default=Path(default),
            show_default=True,
            help="File of the report.",
        ),
    )


def complete_function_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of deployed functions; none if the platform does not answer."""
    session = ctx.find_object(Session) or Session()
    with suppress(FnbuildError):
        deployments = session.connect().deployments(session.namespace)
        return [each.name for each in deployments if each.name.startswith(incomplete)]
    return []


def complete_project_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of projects; none if the platform does not answer."""
    session = ctx.find_object(Session) or Session()
    with suppress(FnbuildError):
        projects = session.connect().projects(session.namespace)
        return [project.name for project in projects if project.name.startswith(incomplete)]
    return []
