"""Recorded requests decide about the next revision, in pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubernetes import labels
from tests.containers.test_replay import check_canary
from tests.kubernetes.conftest import OnCluster

pytestmark = pytest.mark.system


def test_a_pod_that_answers_differently_is_refused(user: OnCluster, tmp_path: Path) -> None:
    check_canary(user, tmp_path, "kube")
    left = user.cluster.list(kinds.POD, user.space, labels=f"{labels.TEMPORARY_POD_OF}=boxes")
    assert [pod for pod in left if not pod["metadata"].get("deletionTimestamp")] == []
