"""Models that `fnbuild model pull` has downloaded to this machine, in the data directory.

models/KEY/files/      the model, as `fnbuild.runtime.storage.fetch` stores it
models/KEY/model.json  its URI, hashes and times; written once the model is complete

The key depends on the URI and the patterns that select files. A bundle is a tar archive of one
model.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fnbuild.datadir import LockHolder, data_dir, hold_lock
from fnbuild.errors import BusyError, InputError, NotFoundError
from fnbuild.models.uris import parse_storage_uri
from fnbuild.progress import Progress
from fnbuild.runtime.storage import fetch
from fnbuild.runtime.storage.digests import model_sha256
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.uris import SHA256_VARIABLE, StorageUri

_ALLOW, _IGNORE = "STORAGE_ALLOW_PATTERNS", "STORAGE_IGNORE_PATTERNS"
_MANIFEST = "model.json"
_FILES = "files"
_STATE = ".fnbuild"


class CachedModel(msgspec.Struct, frozen=True):
    """A model in the cache. `sha256` is that of the download, `files` those on the disk.

    Times are Unix times: `pulled` that of the download, `used` that of the last pull.
    """

    key: str
    uri: str
    sha256: str
    size: int
    pulled: float
    used: float
    files: dict[str, str]

    @property
    def path(self) -> Path:
        """The model: its only file, or the folder with its files."""
        folder = cache_dir() / self.key / _FILES
        return folder / next(iter(self.files)) if len(self.files) == 1 else folder


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A model to download. `include` and `exclude` are patterns of its files."""

    uri: str
    sha256: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @property
    def storage_uri(self) -> StorageUri:
        """The parsed URI; `hf://owner/model@revision` is accepted, too."""
        text = self.uri
        if text.startswith("hf://"):
            text = text.replace("@", ":", 1)
        return parse_storage_uri(text if "://" in text else str(Path(text).absolute()))

    @property
    def key(self) -> str:
        parts = [str(self.storage_uri), *sorted(self.include), "", *sorted(self.exclude)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a download: credentials, patterns and the expected hash."""
        settings = {_ALLOW: ",".join(self.include), _IGNORE: ",".join(self.exclude)}
        return {**variables, **settings, SHA256_VARIABLE: self.sha256.strip().lower()}


def cache_dir() -> Path:
    return data_dir() / "models"


def pull(request: PullRequest, progress: Progress, *, offline: bool = False) -> CachedModel:
    """Return a model of the cache, after downloading what is missing or has changed.

    `offline` asks no server. Waits for another process that downloads the model. Raises
    `InputError`, and `NotFoundError` for a model that is not in the cache.
    """
    uri = request.storage_uri
    if uri.scheme not in ("s3", "gs", "https", "http", "hf"):
        raise InputError(
            f"{uri} cannot be downloaded",
            hint="use s3, gs, https or hf; a local path needs no download",
        )
    folder = cache_dir() / request.key
    with _locked(folder, progress):
        if offline:
            cached = _find_offline(request, folder)
            _write(folder, msgspec.structs.replace(cached, used=time.time()))
            return cached
        variables = request.environment(os.environ)
        variables["STORAGE_URI"] = str(uri)
        try:
            wanted = fetch.model_request(variables, str(folder / _FILES))
            fetched = fetch.fetch_model(wanted, progress)
        except StorageError as error:
            raise _input_error(error) from None
        return _record(request, folder, model_sha256(fetched.hashes), fetched.path)


def _input_error(error: StorageError) -> InputError:
    """Return the error with the flag in place of the variable of a function."""
    message, hint = (
        text.replace(SHA256_VARIABLE, "--sha256") for text in (error.message, error.hint)
    )
    return InputError(message, hint=hint or None)


def _find_offline(request: PullRequest, folder: Path) -> CachedModel:
    cached = _read_complete(folder)
    if cached is None:
        raise NotFoundError(
            f"{request.storage_uri.printable} is not in the cache",
            hint="`fnbuild model pull` downloads it, `fnbuild model load` takes it from a bundle",
        )
    wanted = request.sha256.strip().lower()
    if wanted and cached.sha256 != wanted:
        raise InputError(
            f"{cached.uri} in the cache has the sha256 {cached.sha256}, not {wanted}",
            hint="pull it without `--offline`",
        )
    return cached


def _record(request: PullRequest, folder: Path, sha256: str, path: str) -> CachedModel:
    before, now = _read_complete(folder), time.time()
    if before is not None and before.sha256 == sha256:
        model = msgspec.structs.replace(before, used=now)
    else:
        uri = request.storage_uri.printable
        hashes = fetch.local_hashes(path)
        size = sum((Path(path) / name).stat().st_size for name in hashes)
        model = CachedModel(request.key, uri, sha256, size, now, now, hashes)
    _write(folder, model)
    return model


def cached_models() -> list[CachedModel]:
    """Return the complete models of the cache, those that were used last first."""
    folders = cache_dir().iterdir() if cache_dir().is_dir() else ()
    models = [
        model
        for folder in folders
        if not folder.name.startswith(".") and (model := _read_complete(folder)) is not None
    ]
    return sorted(models, key=lambda model: model.used, reverse=True)


def choose_for_removal(
    models: Iterable[CachedModel], older_than: float | None, max_size: int | None
) -> list[CachedModel]:
    """Return the models that were used before that many seconds, or that exceed the size.

    `models` begin with those that were used last, which stay longest.
    """
    chosen, total, oldest = [], 0, time.time() - (older_than or 0.0)
    for model in models:
        too_old = older_than is not None and model.used < oldest
        if too_old or (max_size is not None and total + model.size > max_size):
            chosen.append(model)
        else:
            total += model.size
    return chosen


def remove(model: CachedModel) -> None:
    """Remove a model from the cache. Raises `BusyError` during a download."""
    folder = cache_dir() / model.key
    with _locked(folder):
        (folder / _MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def write_bundle(model: CachedModel, path: Path) -> None:
    """Write a model as an archive that `load_bundle` reads. Raises `InputError`."""
    folder = cache_dir() / model.key
    draft = path.with_name(path.name + ".new")
    names = (_MANIFEST, f"{_FILES}/{_STATE}/index", *(f"{_FILES}/{name}" for name in model.files))
    try:
        with tarfile.open(draft, "w") as archive:
            for name in names:
                archive.add(folder / name, f"{model.key}/{name}", recursive=False)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def load_bundle(path: Path) -> CachedModel:
    """Add the model of a bundle to the cache. Raises `InputError` unless it is complete."""
    try:
        with tarfile.open(path, "r:") as archive:
            key = _bundle_key(path, archive)
            folder, draft = cache_dir() / key, cache_dir() / f".{key}.new"
            with _locked(folder):
                try:
                    return _load(path, archive, folder, draft)
                finally:
                    shutil.rmtree(draft, ignore_errors=True)
    except tarfile.TarError as error:
        raise InputError(f"{path} is no bundle: {error}", hint=_BUNDLE_HINT) from error
    except OSError as error:
        raise InputError(f"cannot load {path}: {error.strerror}") from error


_BUNDLE_HINT = "`fnbuild model pull URI --bundle FILE` writes one"


def _bundle_key(path: Path, archive: tarfile.TarFile) -> str:
    """Return the key of the model, which is the folder of all files in the archive."""
    first = archive.next()
    key = first.name.partition("/")[0] if first is not None else ""
    if re.fullmatch("[0-9a-f]{16}", key) is None:
        raise InputError(f"{path} has no model", hint=_BUNDLE_HINT)
    return key


def _load(path: Path, archive: tarfile.TarFile, folder: Path, draft: Path) -> CachedModel:
    """Unpack a bundle to `draft`, check it, and let it take the place of `folder`."""
    shutil.rmtree(draft, ignore_errors=True)
    for member in archive:
        _unpack(archive, member, folder.name, draft)
    model = _read(draft)
    if model is None or model.key != folder.name:
        raise InputError(f"{path} has no model", hint=_BUNDLE_HINT)
    _check_hashes(path, draft / _FILES, model)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    _write(folder, msgspec.structs.replace(model, used=time.time()))
    return model


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, key: str, folder: Path) -> None:
    parts = member.name.split("/")
    if member.isdir():
        return
    source = archive.extractfile(member) if member.isfile() else None
    if source is None or parts[0] != key or {"", "..", key} & set(parts[1:] or [""]):
        raise InputError(f"the bundle has a file that cannot be stored: {member.name!r}")
    target = folder.joinpath(*parts[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _check_hashes(path: Path, folder: Path, model: CachedModel) -> None:
    hashes = fetch.local_hashes(str(folder)) if folder.is_dir() else {}
    damaged = sorted(set(model.files.items()) ^ set(hashes.items()))
    if damaged or not hashes or fetch.stored_sha256(str(folder)) != model.sha256:
        name = damaged[0][0] if damaged else _MANIFEST
        raise InputError(f"{path} is damaged: {name} is missing or has another sha256")


def _read_complete(folder: Path) -> CachedModel | None:
    """Return the model in a folder; None if it was not downloaded completely since."""
    model, files = _read(folder), folder / _FILES
    is_complete = (
        model is not None
        and all((files / name).is_file() for name in model.files)
        and fetch.stored_sha256(str(files)) == model.sha256
    )
    return model if is_complete else None


def _read(folder: Path) -> CachedModel | None:
    try:
        return msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=CachedModel)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(folder: Path, model: CachedModel) -> None:
    draft = folder / f"{_MANIFEST}.new"
    try:
        draft.write_bytes(msgspec.json.encode(model))
        draft.replace(folder / _MANIFEST)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error


def _locked(folder: Path, progress: Progress | None = None) -> AbstractContextManager[None]:
    """Hold the lock of a model, beside its folder; wait for it, or raise `BusyError`."""

    def on_conflict(holder: LockHolder) -> None:
        if progress is None:
            text = f"the model is being {holder.what} by {holder}"
            raise BusyError(text, hint="try again later")
        progress(f"waiting for {holder}, which uses the same model")

    return hold_lock(folder.with_name(f".{folder.name}.lock"), "changed", on_conflict)


def check_local(request: PullRequest) -> Path:
    """Return the path of a model on this machine after a check of its hash."""
    try:
        wanted = fetch.model_request(
            {**request.environment({}), "STORAGE_URI": str(request.storage_uri)}, ""
        )
        return Path(fetch.fetch_model(wanted, lambda _: None).path)
    except StorageError as error:
        raise _input_error(error) from None


def place_into(model: Path, folder: Path) -> Path:
    """Copy a model to a folder of a function, where git ignores it; return its path there.

    Raises `InputError` instead of overwriting other files.
    """
    source = model if model.is_dir() else model.parent
    target = folder.absolute()
    paths = [model] if model.is_file() else sorted(source.rglob("*"))
    names = [path.relative_to(source) for path in paths if path.is_file()]
    names = [name for name in names if name.parts[0] != _STATE]
    try:
        target.mkdir(parents=True, exist_ok=True)
        _have_git_ignore(target, sorted({name.parts[0] for name in names}))
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            # No link, since a program that overwrites the copy would damage the cache.
            shutil.copy2(source / name, target / name)
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror}") from error
    return target / model.name if model.is_file() else target


def _have_git_ignore(folder: Path, names: Sequence[str]) -> None:
    """Add names to the folder's .gitignore. A file that is not in there is not of a model."""
    path = folder / ".gitignore"
    lines = path.read_text().splitlines() if path.exists() else []
    added = ["/" + re.sub(r"([\\*?\[ ])", r"\\\1", name) for name in names]
    for name, line in zip(names, added, strict=True):
        if (folder / name).exists() and line not in lines:
            raise InputError(
                f"{folder / name} exists, and is not of a model that was pulled before",
                hint="name another folder, such as weights",
            )
    path.write_text("\n".join(dict.fromkeys([*lines, *added])) + "\n")
