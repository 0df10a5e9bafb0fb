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
    "--variant",
    metavar="NAME",
    help="Overlay to merge over the file: gpu, cpu, your own, or a path.",
)

file_option = click.option(
    "-f",
    "--file",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file. [default: PATH/function.yaml]",
)

keep_failed_option = click.option(
    "--keep-failed",
    is_flag=True,
    help="Keep the pods of a failed revision in the cluster for inspection.",
)
force_conflicts_option = click.option(
    "--force-conflicts",
    is_flag=True,
    help="Overwrite fields that other clients changed in the cluster.",
)

_SOURCE = [
    click.option(
        "-p", "--path", metavar="PATH", help="Folder, function.yaml, source file, archive or URL."
    ),
    click.option("--source", metavar="TEXT", help="Source code of the handler, as text or base64."),
    file_option,
    variant_option,
]

_BUILD = [
    click.option("-i", "--image", metavar="NAME", help="Name of the image to build."),
    click.option(
        "-r",
        "--registry",
        envvar="NUCTL_REGISTRY",
        metavar="URL",
        help="Registry to push images to.",
    ),
    click.option("--runtime", metavar="NAME", help="Runtime, such as python:3.11."),
    click.option("--handler", metavar="MODULE:NAME", help="The handler, such as main:handler."),
    click.option("--no-pull", is_flag=True, help="Do not pull base images."),
    click.option("--no-cache", is_flag=True, help="Do not use the build cache."),
    click.option(
        "--build-arg", multiple=True, metavar="NAME=VALUE", help="Build argument. Repeatable."
    ),
    click.option("--no-cleanup", is_flag=True, help="Keep the build's temporary folder."),
    click.option("--offline", is_flag=True, help="Build without the network."),
    click.option("--base-image", metavar="NAME", help="Base image."),
    click.option(
        "--onbuild-image", metavar="NAME", help="Onbuild image (spec.build.onbuildImage)."
    ),
    click.option(
        "--build-command", multiple=True, metavar="CMD", help="Build command. Repeatable."
    ),
    click.option(
        "--build-runtime-attrs",
        metavar="JSON",
        help="Build attributes of the runtime (spec.build.runtimeAttributes).",
    ),
    click.option(
        "--build-code-entry-attrs",
        metavar="JSON",
        help="Attributes of the code entry, such as credentials.",
    ),
    click.option(
        "--code-entry-type",
        metavar="TYPE",
        help="Source of the code: archive, git, github, s3, image or sourceCode.",
    ),
]


def _number_option(name: str, text: str) -> Callable[[Decorated], Decorated]:
    return click.option(name, type=int, default=-1, metavar="N", help=text)


_CONFIGURATION = [
    click.option("--desc", metavar="TEXT", help="Description."),
    click.option("-l", "--labels", metavar="K=V,…", help="Labels of the function."),
    click.option("--annotations", metavar="K=V,…", help="Annotations of the function."),
    click.option(
        "-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment variable. Repeatable."
    ),
    click.option(
        "--secret-env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Environment variable with a secret value. Repeatable.",
    ),
    click.option("-d", "--disable", is_flag=True, help="Deploy without running it."),
    click.option(
        "--triggers", metavar="JSON", help="Triggers by name, merged over those of the file."
    ),
    click.option("--platform-config", metavar="JSON", help="Merged over spec.platform."),
    click.option(
        "--data-bindings",
        metavar="JSON",
        help="Data bindings by name, merged over those of the file.",
    ),
    click.option(
        "--runtime-attrs",
        metavar="JSON",
        help="Attributes of the runtime (spec.runtimeAttributes).",
    ),
    click.option(
        "--volume", multiple=True, metavar="SRC:DST[:ro]", help="Mount a host path. Repeatable."
    ),
    click.option(
        "--resource-limit",
        multiple=True,
        metavar="NAME=QTY",
        help="Resource limit, such as memory=2Gi. Repeatable.",
    ),
    click.option(
        "--resource-request",
        multiple=True,
        metavar="NAME=QTY",
        help="Resource request. Repeatable.",
    ),
    _number_option("--replicas", "Fixed number of replicas."),
    _number_option("--min-replicas", "Minimum number of replicas."),
    _number_option("--max-replicas", "Maximum number of replicas."),
    _number_option("--target-cpu", "Target CPU utilization of autoscaling, in percent."),
    _number_option("--readiness-timeout", "Seconds to wait until the function is ready."),
    _number_option("--run-as-user", "User id of the processes."),
    _number_option("--run-as-group", "Group id of the processes."),
    _number_option("--fsgroup", "Group id of mounted volumes."),
    click.option(
        "--nodeSelector", "node_selector", metavar="K=V,…", help="Labels of the nodes to run on."
    ),
    click.option("--nodeName", "node_name", metavar="NAME", help="Node to run on."),
    click.option(
        "--priorityClassName", "priority_class_name", metavar="NAME", help="Priority class."
    ),
    click.option(
        "--preemptionPolicy", "preemption_policy", metavar="NAME", help="Preemption policy."
    ),
    click.option(
        "--http-trigger-service-type",
        type=SERVICE_TYPES,
        envvar="NUCTL_DEFAULT_SERVICE_TYPE",
        help="Type of the Kubernetes service.",
    ),
    click.option(
        "--hardened",
        is_flag=True,
        help="Run pods without root and with a read-only root file system.",
    ),
    click.option(
        "--allow-from",
        multiple=True,
        metavar="NAMESPACE",
        help="Other namespace that may call a hardened function; '*' for all. Repeatable.",
    ),
    click.option("--run-image", metavar="NAME", help="Deploy this image instead of building one."),
    click.option(
        "--run-registry",
        envvar="NUCTL_RUN_REGISTRY",
        metavar="URL",
        help="Registry from which nodes pull images.",
    ),
    click.option("--logger-level", metavar="LEVEL", help="Log level of the function."),
    click.option("--publish", is_flag=True, help="Accepted for compatibility; has no effect."),
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
