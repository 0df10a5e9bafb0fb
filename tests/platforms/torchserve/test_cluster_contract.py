"""TorchServe in a cluster satisfies the contract of all platforms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.platforms import Platform, lookup
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author, RunningFunction
from tests.platforms.torchserve.cluster_author import (
    FAST_START,
    ClusterAuthor,
    cluster_author,
    write_packages,
)
from tests.torchserve_image import torchserve_image

pytestmark = pytest.mark.system

_SETTINGS = """\
spec:
  replicas: 1
  imagePullPolicy: Never
  resources:
    requests: {{cpu: 100m, memory: 256Mi}}
    limits: {{cpu: "2"}}
  env: {variables}
  platform:
    attributes:
      torchserve:
        baseImage: {image}
        store: pvc://serving-model-pvc
        storeMount: {mount}
        serviceType: NodePort
"""

# `test_cluster` has rollouts; KServe has the same records.
del test_a_failed_revision_leaves_the_old_one_serving  # noqa: F821
del test_redeploys_and_rollbacks  # noqa: F821
del test_a_changed_configuration_creates_a_revision  # noqa: F821
del test_projects_are_created_updated_and_deleted  # noqa: F821


class RunningInCluster(RunningFunction):
    def check(self) -> None:
        super().check()
        redeployed = self.author.deploy("goodbye")
        assert redeployed.http_port == self.deployment.http_port
        assert redeployed.revision == 2
        assert self.author.invoke(redeployed)["greeting"] == "goodbye"
        assert len(self.platform.revisions(self.namespace, "greeter")) == 2

    def check_recorded_code(self) -> None:
        """Only the model store has the code."""
        assert self.platform.code_folder(self.namespace, "greeter") is None


@pytest.fixture
def running_function() -> type[RunningFunction]:
    return RunningInCluster


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterAuthor]:
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "data"))
    with cluster_author(tmp_path) as author:
        yield author


@pytest.fixture
def namespace(user: ClusterAuthor) -> str:
    return user.namespace


@pytest.fixture
def platform(user: ClusterAuthor) -> Platform:
    return lookup("torchserve")


@pytest.fixture
def author(user: ClusterAuthor, tmp_path: Path, platform: Platform) -> Author:
    author = Author(tmp_path / "greeter", platform, "torchserve", user.namespace)
    write_packages(user.volume)
    settings = _SETTINGS.format(
        image=torchserve_image(), mount=user.volume, variables=json.dumps(FAST_START)
    )
    author.config = author.config.replace("spec:\n", settings, 1)
    (author.folder / "function.yaml").write_text(author.config)
    return author
