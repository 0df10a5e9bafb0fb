"""Uploads to buckets of S3 and Google Cloud Storage, by fsspec.

The sha256 of a file is in the metadata of its object. A later upload compares it, and downloads
from Google Cloud Storage check it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fnbuild.errors import ConflictError, InputError, UnavailableError
from fnbuild.models.local_files import LocalFile
from fnbuild.models.upload import CountBytes
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.s3 import s3_server
from fnbuild.runtime.storage.uris import StorageUri

T = TypeVar("T")

_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
_METADATA_KEY = "sha256"


class BucketTarget:
    """A folder of a bucket."""

    def __init__(self, uri: StorageUri, environment: Mapping[str, str] = os.environ):
        self._uri = uri
        self._root = "/".join(filter(None, (uri.location, uri.path)))
        self._files = _filesystem(uri, environment)

    def stored_sha256(self, file: LocalFile) -> str:
        path = f"{self._root}/{file.path}"

        def read() -> str:
            try:
                info = self._files.info(path, refresh=True)
            except FileNotFoundError:
                return ""
            if info["type"] != "file" or info["size"] != file.size:
                return ""
            if self._uri.scheme == "s3":
                return str(self._files.metadata(path, refresh=True).get(_METADATA_KEY, ""))
            return str((info.get("metadata") or {}).get(_METADATA_KEY, ""))

        return self._translate(read)

    def store(self, file: LocalFile, sha256: str, count: CountBytes) -> None:
        from fsspec.callbacks import Callback

        class Counting(Callback):  # type: ignore[misc]
            def relative_update(self, inc: int = 1) -> None:
                count(inc)

        path, metadata = f"{self._root}/{file.path}", {_METADATA_KEY: sha256}
        name = "Metadata" if self._uri.scheme == "s3" else "metadata"
        arguments = {name: metadata, "callback": Counting()}
        self._translate(lambda: self._files.put_file(str(file.source), path, **arguments))
        if self._translate(lambda: self._files.info(path, refresh=True))["size"] != file.size:
            raise InputError(
                f"{self._uri.child(file.path)} is not complete after the upload", hint="try again"
            )

    def paths(self) -> list[str]:
        def read() -> list[str]:
            self._files.invalidate_cache()
            try:
                listed = self._files.find(self._root)
            except FileNotFoundError:
                return []
            return [str(path).removeprefix(f"{self._root}/") for path in listed]

        return self._translate(read)

    def move(self, source: str, destination: str) -> None:
        """Move a file within the folder. Raises `ConflictError` if the destination exists."""
        paths = f"{self._root}/{source}", f"{self._root}/{destination}"
        self._files.invalidate_cache()
        if self._translate(lambda: self._files.exists(paths[1])):
            target = self._uri.child(destination)
            raise ConflictError(f"{target} exists already", hint="rename or remove it")
        self._translate(lambda: self._files.copy(*paths))
        try:
            self._translate(lambda: self._files.rm_file(paths[0]))
        except InputError:
            with contextlib.suppress(InputError):
                self._translate(lambda: self._files.rm_file(paths[1]))
            raise

    def _translate(self, operation: Callable[[], T]) -> T:
        bucket = f"{self._uri.scheme}://{self._uri.location}"
        hint = "check the credentials, and their rights to write"
        try:
            return operation()
        except FileNotFoundError:
            raise InputError(f"the bucket {bucket} does not exist", hint="create it") from None
        except PermissionError as error:
            raise InputError(f"{bucket} cannot be used: {error}", hint=hint) from None
        except Exception as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            hint = "check the network, the address of the server, and the credentials"
            raise InputError(f"{bucket} cannot be used: {reason}", hint=hint) from error


def _filesystem(uri: StorageUri, environment: Mapping[str, str]) -> Any:
    package, extra = _PACKAGES[uri.scheme]
    # The package logs the tracebacks of errors that it raises as well.
    logging.getLogger(package).setLevel(logging.CRITICAL)
    try:
        # Imported on use: both are optional and take a second.
        if uri.scheme == "s3":
            from s3fs import S3FileSystem

            return S3FileSystem(skip_instance_cache=True, **_s3_options(environment))
        # Not the class that fsspec selects, which asks for the bucket's layout by gRPC.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(skip_instance_cache=True, **_google_options(environment))
    except ImportError as error:
        raise UnavailableError(
            f"an upload to {uri} needs the Python package {package}, which is not installed",
            hint=f"`pip install 'fnbuild[{extra}]'`",
        ) from error


def _s3_options(environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        server = s3_server(environment)
    except StorageError as error:
        raise InputError(error.message, hint=error.hint or None) from None
    verify = (server.ca_file or True) if server.verify else False
    client: dict[str, Any] = {"region_name": server.region, "verify": verify}
    if server.endpoint:
        client["endpoint_url"] = server.endpoint
    # s3fs repeats requests itself: with botocore's repetitions, a wrong address takes minutes.
    config: dict[str, Any] = {"retries": {"total_max_attempts": 2}}
    if server.virtual_host:
        config["s3"] = {"addressing_style": "virtual"}
    options: dict[str, Any] = {"client_kwargs": client, "config_kwargs": config}
    if server.credentials is not None:
        options |= {
            "key": server.credentials.access_key,
            "secret": server.credentials.secret_key,
            "token": server.credentials.session_token or None,
        }
    return options


def _google_options(environment: Mapping[str, str]) -> dict[str, Any]:
    file = environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    if file:
        return {"token": file}
    return {"token": "anon"} if environment.get("STORAGE_EMULATOR_HOST") else {}
