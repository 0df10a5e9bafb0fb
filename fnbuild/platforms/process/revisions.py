"""Revisions on disk: immutable code, its Python environment and its processor configuration."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fnbuild import trees
from fnbuild.builder import (
    environment,
    grpc_packages,
    interpreter,
    requirements,
    sdk,
    staging,
    torch_index,
)
from fnbuild.datadir import revision_dir
from fnbuild.errors import BuildError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, to_dict
from fnbuild.platforms import Artifact, FunctionKey, Leftover, Progress, function_log
from fnbuild.platforms.process.isolation import grpc_python, is_interpreter_accessible
from fnbuild.platforms.process.layout import (
    CONFIG_NAME,
    config_path,
    log_path,
    models_dir,
    revisions_dir,
)
from fnbuild.platforms.process.processor_config import RevisionPaths, processor_config
from fnbuild.store import RevisionDraft, RevisionRow, Store

KEPT_REVISIONS = 10


def make_revision(
    key: FunctionKey, function: Function, artifact: Artifact, store: Store, progress: Progress
) -> RevisionRow:
    """Stage and record the next revision. The caller holds the function's lock.

    A staged copy is moved, other folders are copied. Raises `BuildError`: if the code could not be
    copied, its folder is removed; if the environment failed, a failed revision is recorded.
    """
    remove_unrecorded(key, store)
    number = store.next_revision_number(*key)
    folder = revision_dir(*key, number)
    with _removed_on_failure(folder):
        progress(f"making revision {number}")
        code = folder / "code"
        staging.take_code(Path(artifact.reference), code)
        draft = RevisionDraft(artifact.digest, to_dict(function), interpreter="", code=str(code))
        try:
            # Until the revision is recorded, its environment would count as unused.
            with environment.keep_environments():
                paths, python = _prepare_environment(function, number, code, progress)
                _write_config(folder / CONFIG_NAME, function, paths)
                draft = replace(draft, interpreter=paths.interpreter, environment=str(python or ""))
                return store.add_revision(*key, draft)
        except BuildError as error:
            _record_failure(key, store, draft, error)
            failure = error
    raise failure


def copy_revision(key: FunctionKey, recorded: RevisionRow, store: Store) -> RevisionRow:
    """Record the next revision with the code and the environment of a recorded one.

    The caller holds the function's lock. Raises `BuildError` if the code could not be copied.
    """
    remove_unrecorded(key, store)
    number = store.next_revision_number(*key)
    folder = revision_dir(*key, number)
    with _removed_on_failure(folder):
        code = folder / "code"
        staging.take_code(recorded.code, code)
        sdk_path = json.loads(config_path(key, recorded.number).read_bytes()).get("sdk_path")
        function = function_from_dict(recorded.config, f"{key.name} revision {recorded.number}")
        paths = RevisionPaths(number, str(code), recorded.interpreter, sdk_path)
        _write_config(folder / CONFIG_NAME, function, paths)
        draft = RevisionDraft(
            recorded.digest,
            recorded.config,
            recorded.interpreter,
            recorded.environment,
            code=str(code),
        )
        return store.add_revision(*key, draft)


def _record_failure(
    key: FunctionKey, store: Store, draft: RevisionDraft, error: BuildError
) -> None:
    """Record the failed revision, as the function's state too if none has ever run."""
    message = "\n".join(part for part in (error.message, error.detail) if part)
    number = store.add_revision(*key, draft).number
    store.fail_revision(*key, number, message)
    function_log.append(log_path(key), "error", message)
    row = store.function(*key)
    if row is not None and row.revision == 0:
        project = function_from_dict(draft.config, key.name).project
        store.update_function(
            *key,
            desired="running",
            state="error",
            message=message,
            config=draft.config,
            project=project,
        )


def _prepare_environment(
    function: Function, number: int, code: Path, progress: Progress
) -> tuple[RevisionPaths, Path | None]:
    """Create the environment; return the revision's paths and the Python of the environment."""
    python = interpreter.choose_interpreter(function, is_interpreter_accessible)
    required = torch_index.prefer_cpu_builds(
        requirements.collect_requirements(function, code), function
    )
    environment_python = environment.ensure_environment(python, required, progress)
    if grpc_packages.serves_grpc(function):
        # Without them the processor serves HTTP, and its status has the reason.
        with contextlib.suppress(BuildError):
            grpc_packages.ensure_local_packages(grpc_python(), progress)
    paths = RevisionPaths(
        number=number,
        code=str(code),
        interpreter=str(environment_python or python.path),
        sdk=str(sdk.ensure_sdk(python.version)),
    )
    return paths, environment_python


def _write_config(path: Path, function: Function, paths: RevisionPaths) -> None:
    # It contains the values of spec.env.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(processor_config(function, paths), file, indent=1)


@contextlib.contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        trees.try_remove(folder)
        if isinstance(error, OSError | shutil.Error):
            raise _staging_error(error, folder) from error
        raise


def _staging_error(error: OSError | shutil.Error, folder: Path) -> BuildError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(
            f"no space left in {folder.parent}",
            hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
        )
    return BuildError(f"cannot stage the code in {folder}: {error}")


def remove_unrecorded(key: FunctionKey, store: Store) -> None:
    """Remove the remains of killed deploys. The caller holds the function's lock."""
    recorded = {str(row.number) for row in store.revisions(*key)}
    for folder in revisions_dir(key).glob("*"):
        if folder.name not in recorded:
            trees.try_remove(folder)
    staging.remove_abandoned_copies(staging.staging_dir())


def prune_revisions(key: FunctionKey, store: Store) -> None:
    """Delete all but the newest revisions and the active one, with their code."""
    deleted = store.prune_revisions(*key, keep=KEPT_REVISIONS)
    for row in deleted:
        trees.try_remove(revision_dir(*key, row.number))
    if deleted:
        prune_environments(store)
        _prune_models(key)


def _prune_models(key: FunctionKey) -> None:
    """Remove the models that no revision on the disk uses."""
    try:
        # The function's user may have replaced the folder by a link.
        folder = os.open(models_dir(key), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    configs = (
        json.loads(path.read_bytes()) for path in revisions_dir(key).glob(f"*/{CONFIG_NAME}")
    )
    used = {os.path.basename(config.get("models") or "") for config in configs}
    try:
        for name in set(os.listdir(folder)) - used:
            trees.try_remove(Path(f"/proc/self/fd/{folder}", name))
    finally:
        os.close(folder)


def prune_environments(store: Store) -> None:
    """Remove the Python environments that no recorded revision uses."""
    environment.prune_environments(lambda: {Path(text) for text in store.environment_pythons()})


def leftovers(store: Store) -> list[Leftover]:
    """List environments without a revision, and staged copies of killed processes."""
    used = [Path(text) for text in store.environment_pythons()]
    environments = (
        Leftover("environment", str(path), "no revision uses it", size=trees.total_size(path))
        for path in environment.unused_environments(used)
    )
    staged = (
        Leftover("staging", str(path), "its deploy was killed", size=trees.total_size(path))
        for path in staging.abandoned_copies(staging.staging_dir())
    )
    return [*environments, *staged]


def discard_leftover(store: Store, leftover: Leftover) -> bool:
    """Remove a leftover; return False if a revision uses it by now."""
    path = Path(leftover.name)
    if leftover.kind == "environment":
        prune_environments(store)
    elif path in staging.abandoned_copies(staging.staging_dir()):
        trees.try_remove(path)
    return not path.exists()
