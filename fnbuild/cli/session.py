"""The global options, which every command accepts before or after its name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from fnbuild.names import DEFAULT_NAMESPACE, DEFAULT_PLATFORM, PLATFORMS

if TYPE_CHECKING:
    from fnbuild.platforms import ConnectOptions, Platform

_PLATFORM_NAMES = ", ".join(
    f"{entry.name} ({entry.alias})" if entry.alias else entry.name for entry in PLATFORMS
)
_LOCATING_OPTIONS = ("platform", "given_namespace", "kubeconfig", "context")


class WholeNumber(click.IntRange):
    """An integer range that error messages call "integer"."""

    name = "integer"


def _platform_from_environment() -> str:
    return (
        os.environ.get("FNBUILD_PLATFORM") or os.environ.get("NUCTL_PLATFORM") or DEFAULT_PLATFORM
    )


@dataclass(slots=True)
class Session:
    """The global options of a command line.

    The environment provides the default platform and namespace, as in nuctl
    (pkg/nuctl/command/nuctl.go). FNBUILD_PLATFORM takes precedence over NUCTL_PLATFORM.
    """

    platform: str = field(default_factory=_platform_from_environment)
    verbose: bool = False
    concurrency: int = 1
    mask_sensitive_fields: bool = False
    given_namespace: str = field(default_factory=lambda: os.environ.get("NUCTL_NAMESPACE", ""))
    kubeconfig: str = ""
    context: str = ""
    location_options: dict[str, str] = field(default_factory=dict)
    """The options of this command line that select a platform, namespace or cluster."""

    def connect(self) -> Platform:
        """Return the platform. For `auto`, report the choice and its reason on stderr."""
        from fnbuild.deploy.pipeline import choose_platform

        platform, reason = choose_platform(self.platform, self.connect_options)
        if self.platform == "auto":
            click.echo(f"platform {platform.name} ({reason})", err=True)
            self.platform = platform.name
        return platform

    @property
    def connect_options(self) -> ConnectOptions:
        from fnbuild.platforms import ConnectOptions

        return ConnectOptions(self.kubeconfig, self.context)

    @property
    def namespace(self) -> str:
        """The given namespace, or that of the cluster's context, or Nuclio's default."""
        return self.given_namespace or self.connect().default_namespace() or DEFAULT_NAMESPACE


def _store_option(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name:
        session = ctx.ensure_object(Session)
        setattr(session, param.name, value)
        if param.name in _LOCATING_OPTIONS:
            session.location_options[param.opts[0]] = value


def _global_option(*names: str, **attributes: Any) -> click.Option:
    attributes = {"callback": _store_option, **attributes}
    return click.Option(list(names), default=None, expose_value=False, **attributes)


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    _global_option(
        "--platform",
        metavar="NAME",
        help=f"Platform: {_PLATFORM_NAMES} or auto. "
        "[default: process; env: FNBUILD_PLATFORM, NUCTL_PLATFORM]",
    ),
    _global_option(
        "-n",
        "--namespace",
        "given_namespace",
        metavar="NAME",
        help="Namespace of functions and projects. "
        "[default: nuclio, or that of the cluster's context; env: NUCTL_NAMESPACE]",
    ),
    _global_option(
        "-k",
        "--kubeconfig",
        metavar="FILE",
        help="Kubeconfig file of the cluster. [default: ~/.kube/config; env: KUBECONFIG]",
    ),
    _global_option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig file. [default: the current one; env: FNBUILD_CONTEXT]",
    ),
    _global_option(
        "-v",
        "--verbose",
        "--debug",
        is_flag=True,
        help="Show status and headers of replies (invoke), the output of builds (build, deploy), "
        "and tracebacks of internal errors.",
    ),
    _global_option(
        "--concurrency",
        type=WholeNumber(min=1),
        metavar="N",
        help="Number of functions to handle at the same time.",
    ),
    _global_option(
        "--mask-sensitive-fields", is_flag=True, help="Mask passwords and secrets in the output."
    ),
)

pass_session = click.make_pass_decorator(Session, ensure=True)
