"""The Kubernetes platform satisfies the contract of all platforms."""

import pytest

from fnbuild.platforms.kubernetes import KubernetesPlatform
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author

pytestmark = pytest.mark.system


def test_the_recorded_code_is_kept(platform: KubernetesPlatform, author: Author) -> None:
    """Only the image has the code, because the cluster may be remote."""
    author.deploy("hello")
    assert platform.code_folder(author.namespace, "greeter") is None
