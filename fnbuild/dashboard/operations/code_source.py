"""The code of a deploy through the API: its kind, and its folder while the deploy needs it.

A function that exists may keep the code that it has. No path of a request is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from fnbuild import trees
from fnbuild.builder.sources.code_entry import open_code as open_remote_code
from fnbuild.builder.sources.download import is_url
from fnbuild.dashboard.function_folders import LIBRARY_PREFIX, UPLOAD_PREFIX, Library, Uploads
from fnbuild.dashboard.settings import Settings
from fnbuild.deploy.pipeline import DeployRequest
from fnbuild.errors import UsageError
from fnbuild.function.files import displayed_as
from fnbuild.function.merge import merge_functions
from fnbuild.function.reader import function_from_dict
from fnbuild.function.rules import with_default_handler
from fnbuild.function.types import Build, Function, Spec
from fnbuild.platforms import Deployment, Progress

SourceKind = Literal["inline", "image", "remote", "upload", "library", "recorded"]

_REMOTE_TYPES = ("archive", "github", "git", "s3")
_SOURCE_HINT = (
    "send it as spec.build.functionSourceCode (base64), upload it to /api/uploads, or name an image"
    " or a URL: spec.build.codeEntryType says which"
)


def source_kind(function: Function, current: Deployment | None) -> SourceKind:
    """Return the kind of a function's code; `current` is the function as it runs, if it does.

    Raises `UsageError` if the configuration has no code.
    """
    spec, build = function.spec, function.spec.build
    conditions: tuple[tuple[SourceKind, bool], ...] = (
        ("image", build.code_entry_type == "image" or build.mode == "neverBuild"),
        ("inline", bool(build.function_source_code)),
        ("remote", build.code_entry_type in _REMOTE_TYPES or is_url(build.path)),
        ("upload", build.path.startswith(UPLOAD_PREFIX)),
        ("library", build.path.startswith(LIBRARY_PREFIX)),
    )
    if kind := next((kind for kind, is_met in conditions if is_met), None):
        if build.path.lower().startswith("file:"):
            raise UsageError(
                f"{build.path!r} is a path of this machine, which is not opened", hint=_SOURCE_HINT
            )
        return kind
    recorded = current.function.spec if current is not None else None
    if recorded is not None and build.path in ("", recorded.build.path):
        return "recorded" if spec.image in ("", recorded.image) else "image"
    if spec.image and not build.path:
        return "image"
    if build.path:
        message = f"spec.build.path is {build.path!r}: paths of this machine are not opened"
    else:
        message = f"the code of {function.metadata.name or 'the function'} is missing"
    raise UsageError(message, hint=_SOURCE_HINT)


@dataclass(frozen=True, slots=True)
class CodeSource:
    """Makes the code of a deploy through the API available as a folder."""

    kind: SourceKind
    settings: Settings
    uploads: Uploads
    library: Library

    @contextmanager
    def open(
        self, requested: DeployRequest, progress: Progress = lambda _: None
    ) -> Iterator[DeployRequest]:
        """Yield the request with a path, which exists while the context lasts.

        `requested.overrides` is the function in the body, which overrides the function.yaml of the
        code. Raises `InputError`, `BuildError` or `UnavailableError` if the code is unavailable.
        """
        spec = requested.overrides.spec
        overrides = self._normalized(requested.overrides)
        request = replace(requested, overrides=overrides, base=self._base())
        if self.kind == "remote":
            build = spec.build
            if not build.code_entry_type:
                build = msgspec.structs.replace(build, code_entry_type="archive")
            with open_remote_code(None, build=build, progress=progress) as code:
                yield replace(request, path=code.path, config_file=code.config_file)
        elif self.kind == "upload":
            with self.uploads.open(spec.build.path.removeprefix(UPLOAD_PREFIX)) as path:
                yield replace(request, path=path)
        elif self.kind == "library":
            path = self.library.folder(spec.build.path.removeprefix(LIBRARY_PREFIX))
            with displayed_as(path, spec.build.path, "its path names one"):
                yield replace(request, path=path)
        else:
            with self.open_without_code(request) as without_code:
                yield without_code

    @contextmanager
    def open_without_code(self, requested: DeployRequest) -> Iterator[DeployRequest]:
        """Yield the request with an empty folder, for the checks that need no code."""
        with (
            trees.temporary_folder("fnbuild-source-") as folder,
            displayed_as(folder, "the function", _SOURCE_HINT),
        ):
            function = with_default_handler(self._normalized(requested.overrides))
            yield replace(requested, path=folder, overrides=function, base=self._base())

    def _normalized(self, function: Function) -> Function:
        """Return the requested function with this dashboard's build settings.

        Fields that only locate the code are removed (pkg/dashboard/resource/function.go).
        """
        build = function.spec.build
        return function.with_build(
            temp_dir="",
            no_base_images_pull=build.no_base_images_pull or self.settings.no_pull,
            offline=build.offline or self.settings.offline,
            path="" if self.kind in ("upload", "library") else build.path,
            code_entry_type="image" if self.kind == "image" else build.code_entry_type,
        )

    def _base(self) -> Function:
        """Return the function that is merged below every deployed one."""
        registries = Spec(
            build=Build(registry=self.settings.registry), run_registry=self.settings.run_registry
        )
        defaults = function_from_dict(self.settings.defaults, "the dashboard's defaults")
        return merge_functions(defaults, Function(spec=registries))
