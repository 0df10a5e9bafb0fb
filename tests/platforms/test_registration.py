"""The registered platforms, and what the lookup by name returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.errors import UsageError
from fnbuild.names import DEFAULT_PLATFORM, PLATFORMS
from fnbuild.platforms import ConnectOptions, all_platforms, lookup


def test_every_platform_is_found_by_its_names() -> None:
    assert [platform.name for platform in all_platforms()] == [entry.name for entry in PLATFORMS]
    for entry in PLATFORMS:
        if entry.alias:
            assert lookup(entry.alias).name == entry.name


def test_an_unknown_platform_is_an_error_that_lists_all() -> None:
    for name in ("moon", ""):
        with pytest.raises(UsageError, match=f'unknown platform "{name}"') as failure:
            lookup(name)
        assert (
            failure.value.hint == "one of: process, local, kube, nuclio, kserve, torchserve, auto"
        )


def test_the_default_platform_needs_no_service() -> None:
    assert not lookup(DEFAULT_PLATFORM).needs_running_service


def test_platforms_that_auto_may_select_have_a_reason() -> None:
    for platform in all_platforms():
        assert bool(platform.auto_reason) == (platform.name in ("local", "kube"))


def test_platforms_of_clusters_pull_images() -> None:
    pulling = [platform.name for platform in all_platforms() if platform.pulls_images]
    assert pulling == ["kube", "nuclio", "kserve"]


@pytest.mark.parametrize("cluster", [True, False])
def test_names_in_a_cluster_have_to_be_valid_there(
    cluster: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TorchServe runs in the cluster if one is named, on this machine otherwise."""
    for variable in ("KUBECONFIG", "FNBUILD_CONTEXT", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    options = ConnectOptions(kubeconfig=str(tmp_path / "kubeconfig") if cluster else "")
    restricted = [p.name for p in all_platforms(options) if p.needs_kubernetes_names]
    assert restricted == ["kube", "nuclio", "kserve", *(["torchserve"] if cluster else [])]
