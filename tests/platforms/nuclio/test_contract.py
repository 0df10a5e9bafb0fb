"""The Nuclio platform satisfies the contract of all platforms.

It reports an error where Nuclio lacks a feature.
"""

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import NotReadyError, PreconditionError
from fnbuild.platforms import Platform
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author, RunningFunction

pytestmark = pytest.mark.system


class RunningInNuclio(RunningFunction):
    """Nuclio's dashboard keeps no code, and does not pass on the statistics of processors."""

    def check_recorded_code(self) -> None:
        assert self.platform.code_folder(self.namespace, "greeter") is None

    def check_statistics(self) -> None:
        assert self.platform.statistics(self.deployment) == {}

    def check_workers(self) -> None:
        assert self.deployment.workers == ()


@pytest.fixture
def running_function() -> type[RunningFunction]:
    return RunningInNuclio


def test_redeploys_and_rollbacks(platform: Platform, author: Author) -> None:
    """Nuclio keeps one revision: there is no first rollback, and so no second one."""
    first = author.deploy("one")
    with pytest.raises(PreconditionError, match="Nuclio keeps one revision") as failure:
        platform.rollback(author.namespace, "greeter", None, author.progress.append)
    assert "--run-image" in (failure.value.hint or "")
    [only] = platform.revisions(author.namespace, "greeter")
    assert (only.number, only.state) == (1, "active")

    second = author.deploy("two")
    assert second.http_port == first.http_port
    assert second.revision == 2
    assert author.invoke(second)["greeting"] == "two"
    author.write("never deployed")
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.http_port == first.http_port
    assert author.invoke(redeployed)["greeting"] == "two"


def test_a_failed_revision_leaves_the_old_one_serving(platform: Platform, author: Author) -> None:
    first = author.deploy("hello")
    (author.folder / "main.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(NotReadyError) as failure:
        pipeline.deploy(author.request(), author.progress.append)
    assert "revision 1 goes on serving" in failure.value.message, failure.value.hint
    assert "nowhere_to_be_found" in (failure.value.detail or "")
    assert author.invoke(first)["greeting"] == "hello"
    current = platform.deployment(author.namespace, "greeter")
    assert (current.state, current.revision) == ("ready", 1)
    [only] = platform.revisions(author.namespace, "greeter")
    assert only.state == "active"
