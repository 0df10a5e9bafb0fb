"""The Nuclio platform satisfies the contract of all platforms.

It reports an error where Nuclio lacks a feature.
"""

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import NotReadyError, PreconditionError
from fnbuild.platforms import Platform
from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import Author

pytestmark = pytest.mark.system

# Nuclio keeps one revision: there is no first rollback, and so no second one.
del test_a_second_rollback_goes_further_back  # noqa: F821


def test_rollback_runs_the_previous_revision(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    with pytest.raises(PreconditionError, match="Nuclio keeps one revision") as failure:
        platform.rollback(author.namespace, "greeter", None, author.progress.append)
    assert "--run-image" in (failure.value.hint or "")
    [only] = platform.revisions(author.namespace, "greeter")
    assert (only.number, only.state) == (1, "active")


def test_the_recorded_code_is_kept(platform: Platform, author: Author) -> None:
    author.deploy("hello")
    assert platform.code_folder(author.namespace, "greeter") is None


def test_processors_report_statistics(platform: Platform, author: Author) -> None:
    """Nuclio's dashboard does not pass on the statistics of processors."""
    assert platform.statistics(author.deploy("hello")) == {}


def test_a_deployment_reports_its_workers(platform: Platform, author: Author) -> None:
    """Nuclio's dashboard does not pass on the workers of processors."""
    assert author.deploy("hello").workers == ()


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
