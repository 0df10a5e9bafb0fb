"""The Kubernetes platform satisfies the contract of all platforms."""

import pytest

from fnbuild.platforms.kubernetes import KubernetesPlatform
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author

pytestmark = pytest.mark.system


def test_the_recorded_code_is_kept(platform: KubernetesPlatform, author: Author) -> None:
    """In the image alone, wherever that is: a platform that may be far away has no folder."""
    author.deploy("hello")
    assert platform.code_folder(author.namespace, "greeter") is None
