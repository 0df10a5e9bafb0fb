"""Convert the flags of deploy, build and diff to a deploy request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnbuild.cli.console import note
from fnbuild.cli.session import Session

if TYPE_CHECKING:
    from fnbuild.deploy.pipeline import DeployRequest
    from fnbuild.function.types import Build, Function, Raw
    from fnbuild.platforms import PlanOptions, Platform


@contextmanager
def open_request(session: Session, flags: dict[str, Any]) -> Iterator[DeployRequest]:
    """Convert flags to a request, with the code in a local folder until the context ends.

    Inline source gets an empty folder. A name without a path refers to a deployed function: the
    flags override its stored configuration, and its recorded code is the path.
    """
    from fnbuild import trees
    from fnbuild.builder.sources.code_entry import open_code
    from fnbuild.cli.overrides import function_overrides
    from fnbuild.deploy.pipeline import DeployRequest

    converted = _converted_manifest(flags)
    request = DeployRequest(
        name=flags["name"],
        namespace=session.namespace,
        project=flags.get("project_name"),
        overrides=_with_source_address(function_overrides(flags, session.platform), flags["path"]),
        variant=flags.get("variant"),
        platform=session.platform,
        strict=bool(flags.get("strict")),
        enabled=bool(flags.get("enabled")),
        image=_choose_or_load_image(flags),
        options=plan_options(flags),
        connect=session.connect_options,
    )
    if converted is not None:
        namespace = session.given_namespace or converted["metadata"].get("namespace")
        with trees.temporary_folder("fnbuild-source-") as folder:
            path = _write_function(folder, converted)
            yield replace(request, path=path, namespace=namespace or request.namespace)
        return
    if (tree := _tree_config(session, flags)) is not None:
        with trees.temporary_folder("fnbuild-source-") as folder:
            config_file = _write_function(folder, tree)
            yield replace(request, path=Path(flags["path"]), config_file=config_file)
        return
    build = _imported_build(session, request, flags["path"]) or request.overrides.spec.build
    with (
        open_code(
            flags["path"], build=build, config_file=flags["config_file"], progress=note
        ) as source,
        trees.temporary_folder("fnbuild-source-") as empty,
    ):
        request = replace(request, path=source.path, config_file=source.config_file)
        yield _with_path(session, request, empty)


def _converted_manifest(flags: dict[str, Any]) -> Raw | None:
    """Return the configuration of a function for a manifest of KServe, None for any other file."""
    place = flags["config_file"] or flags["path"]
    if place is None or Path(place).suffix not in (".yaml", ".yml"):
        return None
    file = Path(place)
    text = file.read_text(errors="replace") if file.is_file() else ""
    if "serving.k" not in text:
        return None
    import yaml

    from fnbuild.errors import InputError
    from fnbuild.platforms.kserve.manifest_reader import function_config, is_manifest

    try:
        documents = [item for item in yaml.safe_load_all(text) if item is not None]
    except yaml.YAMLError as error:
        raise InputError(f"{file} is no YAML: {' '.join(str(error).split())}") from error
    if not any(map(is_manifest, documents)):
        return None
    if len(documents) != 1:
        raise InputError(
            f"{file} has {len(documents)} objects, and one function is one of them",
            hint="write each into a file of its own",
        )
    try:
        return function_config(documents[0])
    except InputError as error:
        error.message = f"{file}: {error.message}"
        raise


def _tree_config(session: Session, flags: dict[str, Any]) -> Raw | None:
    """Return the configuration of a function for a tree of TorchServe, None for other paths."""
    from fnbuild.bridges.torchserve.config_file import ConfigFile
    from fnbuild.bridges.torchserve.model_store import find_config, require_servable
    from fnbuild.cli.discovery import is_function_folder

    path = flags["path"]
    if session.platform != "torchserve" or path is None or flags["config_file"] is not None:
        return None
    tree = Path(path)
    if not tree.is_dir() or is_function_folder(tree) or (config := find_config(tree)) is None:
        return None
    require_servable(config)
    models = ConfigFile(config).models()
    name = flags["name"] or next((model.name for model in models), tree.absolute().name)
    attributes = {"torchserve": {"modelTree": True}}
    return {
        "metadata": {"name": name},
        "spec": {"runtime": "python", "platform": {"attributes": attributes}},
    }


def _write_function(folder: Path, config: Raw) -> Path:
    """Write a configuration into a folder, and return the file."""
    import yaml

    file = folder / "function.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return file


def _with_source_address(overrides: Function, path: Any) -> Function:
    """Record the address from which the code is fetched, so that an export includes it."""
    from fnbuild.builder.sources.code_entry import FETCHED_ENTRY_TYPES

    build = overrides.spec.build
    if path is None or build.code_entry_type not in FETCHED_ENTRY_TYPES or build.path:
        return overrides
    return overrides.with_build(path=str(path))


def _imported_build(session: Session, request: DeployRequest, path: Any) -> Build | None:
    """Return the build of an imported function if a deploy fetches its code from elsewhere."""
    from fnbuild.builder.sources.code_entry import is_code_fetched
    from fnbuild.errors import NotFoundError

    build = request.overrides.spec.build
    has_code = path is not None or build.code_entry_type or build.function_source_code
    if not request.name or has_code or request.image:
        return None
    platform = session.connect()
    try:
        deployment = platform.deployment(session.namespace, request.name)
    except NotFoundError:
        return None
    if deployment.state != "imported" or not is_code_fetched(deployment.function.spec.build):
        return None
    recorded = platform.code_folder(session.namespace, request.name) is not None
    return None if recorded else deployment.function.spec.build


def _with_path(session: Session, request: DeployRequest, empty: Path) -> DeployRequest:
    """Return the request with a path. `empty` is the folder of functions without code files."""
    from fnbuild.cli.discovery import is_function_folder
    from fnbuild.errors import UsageError
    from fnbuild.function.rules import with_default_handler

    if request.path is not None:
        return request
    if request.image and request.config_file is not None:
        return replace(request, path=request.config_file, config_file=None)
    if request.name and not request.overrides.spec.build.function_source_code:
        request = _with_stored_function(session, request)
    spec = request.overrides.spec
    if request.image and not spec.handler:
        raise UsageError(
            f"{request.image} is to run, and nothing says what its handler is",
            hint="`--handler MODULE:NAME` says it, or `--file FILE` names its function.yaml",
        )
    if request.path is not None and not request.image:
        return request
    if request.image or spec.build.function_source_code:
        return replace(request, path=empty, overrides=with_default_handler(request.overrides))
    if is_function_folder(Path()):
        raise UsageError("no path was given", hint="`--path .` is the current folder")
    return request


def _with_stored_function(session: Session, request: DeployRequest) -> DeployRequest:
    """Return the request with the configuration and the code of the deployed function, if any."""
    from fnbuild.errors import NotFoundError, UsageError
    from fnbuild.function.merge import merge_functions

    assert request.name is not None
    if request.variant is not None:
        # A variant was already applied to the stored configuration.
        raise UsageError(
            "a variant is one of a function's folder, and no path was given",
            hint="`--path FOLDER` names the folder",
        )
    platform = session.connect()
    try:
        deployment = platform.deployment(session.namespace, request.name)
    except NotFoundError:
        return request
    stored = deployment.function
    path = platform.code_folder(session.namespace, request.name)
    image = request.image
    if path is None and not image and platform.artifact_kind == "image":
        # The exact running image, or the image that an export names.
        image = deployment.pinned_image or stored.spec.image
        if deployment.state == "imported" and _needs_build(platform, stored):
            image = ""
    return replace(
        request, path=path, image=image, overrides=merge_functions(request.overrides, stored)
    )


def _needs_build(platform: Platform, function: Function) -> bool:
    """Return True if an imported function includes its source and this engine lacks its image."""
    from fnbuild.builder.image.engines.selection import choose_engine

    if not function.spec.build.function_source_code or not platform.image_engine:
        return False
    image = function.spec.image
    return not image or choose_engine(platform.image_engine).inspect(image) is None


def _choose_or_load_image(flags: dict[str, Any]) -> str:
    """Return the image that the flags name. An archive is loaded into the engine."""
    from fnbuild.errors import InputError, UsageError

    image, file = flags.get("run_image") or "", flags.get("input_image_file")
    if not file:
        return image
    if image:
        raise UsageError("--run-image and --input-image-file each name the image: give one of them")
    if flags.get("dry_run"):
        raise UsageError(
            "--dry-run changes nothing, and --input-image-file loads an image into the engine",
            hint="load it by hand (`docker load`), and name it: `--run-image NAME`",
        )
    from fnbuild.builder.image.engines.selection import choose_engine

    names = choose_engine("docker").load(Path(file))
    if len(names) != 1:
        content = "several images" if names else "no image with a name"
        raise InputError(
            f"{file} holds {content}",
            hint="load it by hand (`docker load`), and give the one to run: `--run-image NAME`",
        )
    note(f"loaded {names[0]} from {file}")
    return names[0]


def plan_options(flags: dict[str, Any]) -> PlanOptions:
    """Return the options of a plan."""
    from fnbuild.platforms import PlanOptions

    names = ("force", "overlap", "listen", "keep_failed", "force_conflicts", "monitoring")
    return PlanOptions(**{name: flags[name] for name in names if flags.get(name)})
