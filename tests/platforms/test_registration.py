"""The registered platforms, and what the lookup by name returns."""

from __future__ import annotations

import pytest

from fnbuild.errors import UsageError
from fnbuild.names import DEFAULT_PLATFORM, PLATFORMS
from fnbuild.platforms import all_platforms, lookup


def test_every_platform_is_found_by_its_names() -> None:
    assert [platform.name for platform in all_platforms()] == [entry.name for entry in PLATFORMS]
    for entry in PLATFORMS:
        if entry.alias:
            assert lookup(entry.alias).name == entry.name


def test_an_unknown_platform_is_an_error_that_lists_all() -> None:
    for name in ("moon", ""):
        with pytest.raises(UsageError, match=f'unknown platform "{name}"') as failure:
            lookup(name)
        assert failure.value.hint == "one of: process, local, kube, nuclio, auto"


def test_a_function_can_always_be_deployed_to_the_default_platform() -> None:
    assert not lookup(DEFAULT_PLATFORM).needs_service


def test_a_platform_that_auto_may_select_has_a_reason_for_it() -> None:
    for platform in all_platforms():
        assert bool(platform.auto_reason) == (platform.name in ("local", "kube"))


def test_images_come_from_an_engine_or_a_registry() -> None:
    pulling = [platform.name for platform in all_platforms() if platform.pulls_images]
    assert pulling == ["kube", "nuclio"]


def test_names_in_a_cluster_have_to_be_valid_there() -> None:
    restricted = [platform.name for platform in all_platforms() if platform.cluster_names]
    assert restricted == ["kube", "nuclio"]
