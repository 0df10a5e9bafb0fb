"""`fnbuild export`: functions and projects in nuctl's format (pkg/nuctl/command/export.go)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import note, warn
from fnbuild.cli.options import combine_options, complete_function_name, complete_project_name
from fnbuild.cli.output import output_option
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.deploy.exports import ExportedFunction
    from fnbuild.function.types import Function, Raw
    from fnbuild.platforms import Deployment, Platform

_EXPORT_COMMANDS = command_entries(
    {
        "functions": ("export:functions", "Print functions.", "function", "fu", "fn"),
        "projects": ("export:projects", "Print projects.", "project", "proj", "prj"),
    }
)

_export_options = combine_options(
    output_option(default="yaml", formats=("yaml", "json")),
    click.option("--no-scrub", is_flag=True, help="Include namespace and secrets."),
    click.option("--with-secrets", is_flag=True, help="Include values of secrets."),
    click.option(
        "--cleanup-spec", is_flag=True, help="Omit registries, and images of inline code."
    ),
    click.option(
        "--with-code",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write the export and the code to a .tar.gz archive for `fnbuild import`.",
    ),
)


@click.group(cls=LazyGroup, entries=_EXPORT_COMMANDS)
def export() -> None:
    """Print functions or projects for `fnbuild import`."""


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_function_name)
@_export_options
@pass_session
def functions(session: Session, /, names: tuple[str, ...], **flags: Any) -> None:
    """Print one function, or several as a map by name."""
    from fnbuild.errors import NotFoundError

    platform = session.connect()
    deployments = (
        [platform.deployment(session.namespace, name) for name in names]
        if names
        else platform.deployments(session.namespace)
    )
    if not deployments:
        raise NotFoundError(f"No functions found (namespace {session.namespace})")
    exports = _FunctionExports(platform, deployments, flags)
    documents = exports.documents
    document = documents[deployments[0].name] if len(deployments) == 1 else documents
    exports.finish("functions", document)


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_project_name)
@_export_options
@pass_session
def projects(session: Session, /, name: str | None, **flags: Any) -> None:
    """Print one project with its functions, or all as a map by name."""
    from fnbuild.cli.listing import project_object
    from fnbuild.errors import NotFoundError

    platform = session.connect()
    chosen = [
        project for project in platform.projects(session.namespace) if name in (None, project.name)
    ]
    if not chosen:
        raise NotFoundError(f"No projects found: {name or session.namespace}")
    members = {
        project.name: platform.deployments(session.namespace, project.name) for project in chosen
    }
    deployments = [deployment for group in members.values() for deployment in group]
    exports = _FunctionExports(platform, deployments, flags)
    documents = {
        project.name: {
            "project": project_object(project),
            "functions": {
                member.name: exports.documents[member.name] for member in members[project.name]
            },
            "functionEvents": {},
            "apiGateways": {},
        }
        for project in chosen
    }
    exports.finish("projects", documents[name] if name else documents)


class _FunctionExports:
    """Functions to be exported, with their code if it is available."""

    def __init__(
        self, platform: Platform, deployments: Sequence[Deployment], flags: dict[str, Any]
    ):
        from fnbuild.deploy.exports import prepare_export

        self._flags = flags
        self._scrub = not flags["no_scrub"]
        self._secrets = flags["with_secrets"] or flags["no_scrub"]
        self._exported: dict[str, ExportedFunction] = {}
        self.documents: dict[str, Raw] = {}
        """The printed document of each function, by name."""
        for deployed in deployments:
            function = (
                platform.function_with_secrets(deployed) if self._secrets else deployed.function
            )
            deployment = replace(deployed, function=function)
            exported = prepare_export(platform, deployment)
            self._exported[deployment.name] = exported
            self.documents[deployment.name] = self._export(
                exported.function, deployment.state, deployment.pinned_image
            )

    def _export(self, function: Function, state: str = "", image: str = "") -> Raw:
        from fnbuild.deploy.exports import export_configuration
        from fnbuild.function.secrets import mask_variables

        cleanup_spec = self._flags["cleanup_spec"]
        raw = export_configuration(
            function, state=state, image=image, scrub=self._scrub, cleanup_spec=cleanup_spec
        )
        return raw if self._secrets else mask_variables(raw, secrets_only=True)

    def finish(self, kind: str, document: Raw) -> None:
        """Print the document or write the archive, and warn about code that is missing from it.

        `kind` is the subcommand of `fnbuild import` that reads the document.
        """
        from fnbuild.cli.output import print_value
        from fnbuild.deploy import exports

        archive: Path | None = self._flags["with_code"]
        if archive is None:
            print_value(document, self._flags["output"])
        else:
            exporter = self._export if self._scrub else None
            folders = {
                name: (exported.function, exported.folder)
                for name, exported in self._exported.items()
                if exported.folder is not None
            }
            for text in exports.write_archive(archive, document, folders, exporter):
                warn(text)
            note(f"wrote {archive}; `fnbuild import {kind} {archive}` reads it")
        self._warn_of_masks()
        for exported in self._exported.values():
            if exported.missing and (archive is None or exported.folder is None):
                remedy = (
                    "" if exported.folder is None else "; `--with-code FILE.tar.gz` takes it along"
                )
                warn(f"{exported.missing}{remedy}")

    def _warn_of_masks(self) -> None:
        """Warn about variables whose values are not in the export."""
        from fnbuild.function.secrets import names_of_masked_variables

        for name, document in self.documents.items():
            if hidden := names_of_masked_variables(document):
                warn(
                    f"{name}: the value of {', '.join(hidden)} is not in the export;"
                    " `--with-secrets` keeps it"
                )
