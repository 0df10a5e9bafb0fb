"""Requests for a deploy from flags."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from fnbuild.cli.deploy_request import open_request
from fnbuild.cli.session import Session

MANIFEST = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: iris, namespace: models}
spec: {predictor: {model: {modelFormat: {name: sklearn}, storageUri: "s3://bucket/iris"}}}
"""


@pytest.mark.parametrize(("option", "namespace"), [("", "models"), ("other", "other")])
def test_the_namespace_of_a_manifest_applies_unless_another_is_given(
    option: str, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "iris.yaml"
    file.write_text(MANIFEST)
    flags = defaultdict(lambda: None, name="", path=str(file))
    with open_request(Session(platform="kserve", given_namespace=option), flags) as request:
        assert request.namespace == namespace
