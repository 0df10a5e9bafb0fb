"""The https URL of an object in S3, signed for an hour if there are credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fnbuild.errors import InputError, UnavailableError

_VALIDITY_SECONDS = 3600


def object_url(attributes: Mapping[str, Any]) -> str:
    """Return the URL of the object in `codeEntryAttributes`, as in Nuclio.

    Raises `InputError`, and `UnavailableError` if a signature is needed and s3fs is not installed.
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
    if not access_key_id:
        return f"https://{bucket}.s3.{region}.amazonaws.com/{quote(item)}"
    try:
        # Imported on use: both are optional and take a second.
        import fsspec

        files = fsspec.filesystem(
            "s3",
            key=access_key_id,
            secret=secret_access_key,
            token=session_token or None,
            client_kwargs={"region_name": region},
            config_kwargs={
                "signature_version": "s3v4",
                "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
            },
            skip_instance_cache=True,  # a cache would keep the credentials
        )
    except ImportError as error:
        raise UnavailableError(
            f"the private object s3://{bucket}/{item} needs the Python package s3fs, which is not"
            " installed",
            hint="`pip install 'fnbuild[s3]'`, or download the object and pass its file",
        ) from error
    return str(files.sign(f"{bucket}/{item}", expiration=_VALIDITY_SECONDS))
