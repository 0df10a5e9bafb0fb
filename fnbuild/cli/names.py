"""Names that the shell completes: of functions and of projects."""

from __future__ import annotations

import click

from fnbuild.cli.session import Session
from fnbuild.errors import FnbuildError


def function_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the functions there are, as far as the platform can be asked."""
    session = ctx.find_object(Session) or Session()
    try:
        found = session.connect().deployments(session.namespace)
    except FnbuildError:
        return []
    return [one.name for one in found if one.name.startswith(incomplete)]


def project_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of the projects there are."""
    session = ctx.find_object(Session) or Session()
    try:
        found = session.connect().projects(session.namespace)
    except FnbuildError:
        return []
    return [one.name for one in found if one.name.startswith(incomplete)]
