"""The KServe platform satisfies the contract of all platforms, with a stand-in for KServe."""

from pathlib import Path

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import NotReadyError
from fnbuild.platforms.kserve.platform import KServePlatform
from fnbuild.platforms.kubeclient import kinds
from tests.platforms import contract
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author

pytestmark = pytest.mark.system


@pytest.fixture
def platform_name() -> str:
    return "kserve"


@pytest.fixture
def platform(built_images: None, data: Path) -> KServePlatform:
    return KServePlatform()


# One deploy is enough for all tests that only read.
del test_processors_report_statistics  # noqa: F821
del test_a_deployment_describes_the_image_for_later_deploys  # noqa: F821
del test_a_deployment_reports_its_workers  # noqa: F821
del test_logs_contain_the_messages_of_the_handler  # noqa: F821
del test_replicas_have_names  # noqa: F821
del test_the_recorded_code_is_kept  # noqa: F821
del test_restore_leaves_a_running_function_alone  # noqa: F821


def test_a_running_function_is_described(platform: KServePlatform, author: Author) -> None:
    # The number of requests comes first.
    contract.test_processors_report_statistics(platform, author)
    contract.test_a_deployment_describes_the_image_for_later_deploys(platform, author)
    contract.test_a_deployment_reports_its_workers(platform, author)
    contract.test_logs_contain_the_messages_of_the_handler(platform, author)
    contract.test_replicas_have_names(platform, author)
    contract.test_restore_leaves_a_running_function_alone(platform, author)
    # Only the image has the code, because the cluster may be remote.
    assert platform.code_folder(author.namespace, "greeter") is None
    assert len(platform.revisions(author.namespace, "greeter")) == 1


def test_a_failed_first_deploy_is_listed_with_its_reason(
    platform: KServePlatform, author: Author
) -> None:
    """Nothing is left in the cluster but the record of the failure."""
    (author.folder / "main.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(NotReadyError, match="container kserve-container") as error:
        pipeline.deploy(author.request(), author.progress.append)
    assert "nowhere_to_be_found" in (error.value.detail or "")
    assert platform.cluster.list(kinds.INFERENCE_SERVICE, author.namespace) == []
    listed = platform.deployment(author.namespace, "greeter")
    assert listed.state == "error"
    assert "exit status" in listed.message
    assert author.deploy("hello").state == "ready"
