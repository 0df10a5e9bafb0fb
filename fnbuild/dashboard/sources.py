"""The code of a function that is deployed by API: where it comes from, and what the pipeline gets.

It comes inline, from an upload, from the library, from a URL or a repository, or is an image; a
function that is there already may keep the code that it has. No path of a request is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from fnbuild import trees
from fnbuild.builder.sources.code_entry import open_code as opened_elsewhere
from fnbuild.builder.sources.download import is_url
from fnbuild.dashboard.library import Library
from fnbuild.dashboard.settings import Settings
from fnbuild.dashboard.uploads import Uploads
from fnbuild.deploy.pipeline import DeployRequest
from fnbuild.errors import UsageError
from fnbuild.platforms import Deployment, Progress
from fnbuild.spec.locate import made_of
from fnbuild.spec.merge import merge
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Build, Function, Spec

Kind = Literal["inline", "image", "elsewhere", "upload", "library", "recorded"]

UPLOAD = "upload:"
LIBRARY = "library:"

_ELSEWHERE = ("archive", "github", "git", "s3")
_HINT = (
    "send it as spec.build.functionSourceCode (base64), upload it to /api/uploads, or name an image"
    " or a URL: spec.build.codeEntryType says which"
)


def kind_of(function: Function, current: Deployment | None) -> Kind:
    """Where the code is; `current` is the function as it is there already. Raises `UsageError`."""
    spec, build = function.spec, function.spec.build
    said: tuple[tuple[Kind, bool], ...] = (
        ("image", build.code_entry_type == "image" or build.mode == "neverBuild"),
        ("inline", bool(build.function_source_code)),
        ("elsewhere", build.code_entry_type in _ELSEWHERE or is_url(build.path)),
        ("upload", build.path.startswith(UPLOAD)),
        ("library", build.path.startswith(LIBRARY)),
    )
    if found := next((kind for kind, so in said if so), None):
        if build.path.lower().startswith("file:"):
            raise UsageError(f"{build.path!r} is on this machine, which is not opened", hint=_HINT)
        return found
    known = current.function.spec if current is not None else None
    if known is not None and build.path in ("", known.build.path):
        return "recorded" if spec.image in ("", known.image) else "image"
    if spec.image and not build.path:
        return "image"
    what = f"spec.build.path is {build.path!r}: paths of this machine are not opened"
    nothing = f"nothing says what the code of {function.metadata.name or 'the function'} is"
    raise UsageError(what if build.path else nothing, hint=_HINT)


@dataclass(frozen=True, slots=True)
class Source:
    """What a deploy by API needs to have its code at hand."""

    kind: Kind
    settings: Settings
    uploads: Uploads
    library: Library

    @contextmanager
    def opened(
        self, asked: DeployRequest, progress: Progress = lambda _: None
    ) -> Iterator[DeployRequest]:
        """The request with a path, for as long as the context lasts.

        `asked.overrides` is what the body says, which lies over the code's own function.yaml.
        Raises `InputError`, `BuildError` or `UnavailableError` for code that cannot be had.
        """
        spec = asked.overrides.spec
        request = replace(asked, overrides=self._settled(asked.overrides), base=self._base())
        if self.kind == "elsewhere":
            build = spec.build
            if not build.code_entry_type:
                build = msgspec.structs.replace(build, code_entry_type="archive")
            with opened_elsewhere(None, build=build, progress=progress) as found:
                yield replace(request, path=found.path, config_file=found.config_file)
        elif self.kind == "upload":
            with self.uploads.opened(spec.build.path.removeprefix(UPLOAD)) as path:
                yield replace(request, path=path)
        elif self.kind == "library":
            path = self.library.folder(spec.build.path.removeprefix(LIBRARY))
            with made_of(path, spec.build.path, "its path names one"):
                yield replace(request, path=path)
        else:
            with self.checked(request) as bare:
                yield bare

    @contextmanager
    def checked(self, asked: DeployRequest) -> Iterator[DeployRequest]:
        """The request as far as it can be told without code: on an empty folder."""
        with (
            trees.temporary_folder("fnbuild-source-") as empty,
            made_of(empty, "the function", _HINT),
        ):
            function = _with_defaults(self._settled(asked.overrides))
            yield replace(asked, path=empty, overrides=function, base=self._base())

    def _settled(self, function: Function) -> Function:
        """What was asked for, without what only says where the code was, and as this dashboard
        builds (pkg/dashboard/resource/function.go)."""
        build = function.spec.build
        changes = {
            "temp_dir": "",
            "no_base_images_pull": build.no_base_images_pull or self.settings.no_pull,
            "offline": build.offline or self.settings.offline,
        }
        if self.kind in ("upload", "library"):
            changes["path"] = ""
        if self.kind == "image":
            changes["code_entry_type"] = "image"
        build = msgspec.structs.replace(build, **changes)
        spec = msgspec.structs.replace(function.spec, build=build)
        return msgspec.structs.replace(function, spec=spec)

    def _base(self) -> Function:
        """What lies below every function."""
        registries = Spec(
            build=Build(registry=self.settings.registry), run_registry=self.settings.run_registry
        )
        defaults = from_raw(self.settings.defaults, "the dashboard's defaults")
        return merge(defaults, Function(spec=registries))


def _with_defaults(function: Function) -> Function:
    """Nuclio's names where a function without a folder says nothing."""
    spec = function.spec
    spec = msgspec.structs.replace(
        spec, runtime=spec.runtime or "python", handler=spec.handler or "main:handler"
    )
    return msgspec.structs.replace(function, spec=spec)
