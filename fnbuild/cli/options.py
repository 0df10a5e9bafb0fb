"""Options that several commands share, and the completion of names.

The options have nuctl's names, in camel case where nuctl uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fnbuild.cli.session import Session
from fnbuild.errors import FnbuildError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SERVICE_TYPES = click.Choice(["ClusterIP", "NodePort", "LoadBalancer"])

variant_option = click.option(
    "--variant", metavar="NAME", help="Overlay that goes before the file: gpu, cpu, yours, a file."
)

file_option = click.option(
    "-f",
    "--file",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file, when it is not PATH/function.yaml.",
)

keep_failed_option = click.option(
    "--keep-failed", is_flag=True, help="Leave a failed revision in the cluster, to look at it."
)
force_conflicts_option = click.option(
    "--force-conflicts", is_flag=True, help="Take over what others have changed in the cluster."
)

_SOURCE = [
    click.option(
        "-p", "--path", metavar="PATH", help="Folder, function.yaml, source file, archive or URL."
    ),
    click.option("--source", metavar="TEXT", help="The handler's source, as text or as base64."),
    file_option,
    variant_option,
]

_BUILD = [
    click.option("-i", "--image", metavar="NAME", help="Name of the image to make."),
    click.option(
        "-r", "--registry", envvar="NUCTL_REGISTRY", metavar="URL", help="Registry to push to."
    ),
    click.option("--runtime", metavar="NAME", help="Runtime, such as python:3.11."),
    click.option("--handler", metavar="MODULE:NAME", help="The handler, such as main:handler."),
    click.option("--no-pull", is_flag=True, help="Pull no base images."),
    click.option("--no-cache", is_flag=True, help="Run every build step anew."),
    click.option(
        "--build-arg", multiple=True, metavar="NAME=VALUE", help="Build argument. Repeatable."
    ),
    click.option("--no-cleanup", is_flag=True, help="Keep the build's temporary folder."),
    click.option("--offline", is_flag=True, help="Build without the network."),
    click.option("--base-image", metavar="NAME", help="Base image."),
    click.option("--onbuild-image", metavar="NAME", help="Onbuild image."),
    click.option(
        "--build-command", multiple=True, metavar="CMD", help="Build command. Repeatable."
    ),
    click.option("--build-runtime-attrs", metavar="JSON", help="Build attributes of the runtime."),
    click.option("--build-code-entry-attrs", metavar="JSON", help="Code entry attributes."),
    click.option("--code-entry-type", metavar="TYPE", help="Where the code comes from."),
]


def _number_option(name: str, text: str) -> Callable[[Decorated], Decorated]:
    return click.option(name, type=int, default=-1, metavar="N", help=text)


_CONFIGURATION = [
    click.option("--desc", metavar="TEXT", help="Description."),
    click.option("-l", "--labels", metavar="K=V,…", help="Labels."),
    click.option("--annotations", metavar="K=V,…", help="Annotations."),
    click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Variable. Repeatable."),
    click.option(
        "--secret-env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Variable to treat as a secret. Repeatable.",
    ),
    click.option("-d", "--disable", is_flag=True, help="Deploy it stopped."),
    click.option("--triggers", metavar="JSON", help="Triggers by name; their values win."),
    click.option("--platform-config", metavar="JSON", help="Joined with spec.platform."),
    click.option("--data-bindings", metavar="JSON", help="Data bindings by name."),
    click.option("--runtime-attrs", metavar="JSON", help="Attributes of the runtime."),
    click.option(
        "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Mount a host path. Repeatable."
    ),
    click.option("--resource-limit", multiple=True, metavar="NAME=QTY", help="Limit. Repeatable."),
    click.option(
        "--resource-request", multiple=True, metavar="NAME=QTY", help="Request. Repeatable."
    ),
    _number_option("--replicas", "Fixed number of replicas."),
    _number_option("--min-replicas", "Fewest replicas."),
    _number_option("--max-replicas", "Most replicas."),
    _number_option("--target-cpu", "CPU percentage that scaling aims at."),
    _number_option("--readiness-timeout", "Seconds to wait until the function is ready."),
    _number_option("--run-as-user", "User id of the processes."),
    _number_option("--run-as-group", "Group id of the processes."),
    _number_option("--fsgroup", "Group id of mounted volumes."),
    click.option("--nodeSelector", "node_selector", metavar="K=V,…", help="Labels of the node."),
    click.option("--nodeName", "node_name", metavar="NAME", help="Run on this node."),
    click.option("--priorityClassName", "priority_class_name", metavar="NAME", help="Priority."),
    click.option("--preemptionPolicy", "preemption_policy", metavar="NAME", help="Preemption."),
    click.option(
        "--http-trigger-service-type",
        type=SERVICE_TYPES,
        envvar="NUCTL_DEFAULT_SERVICE_TYPE",
        help="Kubernetes service of the HTTP trigger.",
    ),
    click.option("--hardened", is_flag=True, help="Pods without root and with a read-only disk."),
    click.option(
        "--allow-from",
        multiple=True,
        metavar="NAMESPACE",
        help="Namespace that may call a hardened function beside its own, or '*'.",
    ),
    click.option("--run-image", metavar="NAME", help="Deploy this image, build nothing."),
    click.option(
        "--run-registry", envvar="NUCTL_RUN_REGISTRY", metavar="URL", help="Registry to run from."
    ),
    click.option("--logger-level", metavar="LEVEL", help="Log level of the function."),
    click.option("--publish", is_flag=True, help="Has no effect, as in nuctl."),
]


def _combine(options: list[Callable[[Any], Any]]) -> Callable[[Decorated], Decorated]:
    def decorate(function: Decorated) -> Decorated:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


source_options = _combine(_SOURCE)
build_options = _combine(_BUILD)
configuration_options = _combine(_CONFIGURATION)


def complete_function_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of deployed functions; none if the platform does not answer."""
    session = ctx.find_object(Session) or Session()
    try:
        deployments = session.connect().deployments(session.namespace)
    except FnbuildError:
        return []
    names = [deployment.name for deployment in deployments]
    return [name for name in names if name.startswith(incomplete)]


def complete_project_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of projects; none if the platform does not answer."""
    session = ctx.find_object(Session) or Session()
    try:
        projects = session.connect().projects(session.namespace)
    except FnbuildError:
        return []
    return [project.name for project in projects if project.name.startswith(incomplete)]
