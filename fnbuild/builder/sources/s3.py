"""The https URL of an object in S3, signed for an hour if there are credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from fnbuild.errors import InputError
from fnbuild.runtime.storage.errors import StorageError
from fnbuild.runtime.storage.s3 import S3Credentials, s3_server

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def object_url(attributes: Mapping[str, Any]) -> str:
    """Return the URL of the object in `codeEntryAttributes`, as in Nuclio.

    Raises `InputError`.
    """
    bucket, item, region, access_key_id, secret_access_key, session_token = (
        str(attributes.get(name) or "")
        for name in (
            "s3Bucket", "s3ItemKey", "s3Region", "s3AccessKeyId", "s3SecretAccessKey",
            "s3SessionToken",
        )
    )  # fmt: skip
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or not item:
        raise InputError("codeEntryType s3 needs codeEntryAttributes.s3Bucket and .s3ItemKey")
    region, item = region or "us-east-1", item.lstrip("/")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise InputError(f"codeEntryAttributes.s3Region: {region!r} is not a region")
    if bool(access_key_id) != bool(secret_access_key):
        raise InputError(
            "codeEntryAttributes has one of s3AccessKeyId and s3SecretAccessKey, not both",
            hint="set both, or none for a public object",
        )
    variables = {name: os.environ[name] for name in _ENDPOINT_VARIABLES if name in os.environ}
    credentials = None
    if access_key_id:
        credentials = S3Credentials(access_key_id, secret_access_key, session_token)
    try:
        server = s3_server(variables if credentials else {})
    except StorageError as error:
        raise InputError(error.message, hint=error.hint or None) from None
    return server._replace(region=region, credentials=credentials).url(bucket, item)
