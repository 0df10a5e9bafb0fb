"""The manifests of all functions of this repository and of all features, byte for byte.

`FNBUILD_WRITE_GOLDEN=1 pytest tests/platforms/kubernetes/test_golden.py` writes the files again;
review the changes with `git diff`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.function.types import Function, Raw
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.platforms.kubernetes.manifests.rendering import (
    prerequisites,
    render_manifests,
    render_portable,
)
from tests.platforms.kubernetes import samples

pytestmark = pytest.mark.system

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
GOLDEN = HERE / "golden"
WRITE = "FNBUILD_WRITE_GOLDEN"


def _sources() -> dict[str, tuple[Path, str | None]]:
    """Return the features, the library's functions with their variants, and a user's function."""
    sources: dict[str, tuple[Path, str | None]] = {
        path.stem: (path, None) for path in (HERE / "features").glob("*.yaml")
    }
    for path in (ROOT / "functions").glob("*/*/function.yaml"):
        name = f"{path.parent.parent.name}-{path.parent.name}"
        for variant in (None, "cpu", "gpu"):
            sources[".".join(filter(None, (name, variant)))] = (path.parent, variant)
    sources["alphapose"] = (ROOT / "tests/data/functions/alphapose.yaml", None)
    return dict(sorted(sources.items()))


SOURCES = _sources()


def function(name: str) -> Function:
    return samples.load(*SOURCES[name])


def text_of(manifests: tuple[Raw, ...]) -> str:
    """Return the manifests as `fnbuild deploy --dry-run -o yaml` prints them."""
    return "\n---\n".join(as_yaml(manifest) for manifest in manifests) + "\n"


@pytest.mark.parametrize("name", SOURCES)
def test_manifests_match_their_golden_file(name: str) -> None:
    sample = function(name)
    text = text_of(render_portable(samples.revision(sample), samples.render_context(sample)))
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get(WRITE):
        path.write_text(text)
    assert path.is_file(), f"there is no {path.name}; {WRITE}=1 writes it"
    assert path.read_text() == text


@pytest.mark.parametrize("name", SOURCES)
def test_manifests_do_not_depend_on_the_revision(name: str) -> None:
    """They are the same for all revisions, owners and live ports."""
    sample = function(name)
    first = render_portable(samples.revision(sample), samples.render_context(sample))
    later = samples.revision(
        sample, number=8, created="later", source=3, owner="other", stamp="again"
    )
    second = render_portable(later, samples.render_context(sample, node_port=30123, replicas=5))
    assert text_of(first) == text_of(second)


@pytest.mark.parametrize("name", SOURCES)
def test_a_new_revision_number_restarts_no_pods(name: str) -> None:
    """The specs, including the pod template, are the same."""
    sample = function(name)
    context = samples.render_context(sample)
    manifests = render_manifests(samples.revision(sample), context)
    later_manifests = render_manifests(
        samples.revision(sample, number=9, created="later", note="again"), context
    )
    for before, after in zip(manifests, later_manifests, strict=True):
        assert before["spec"] == after["spec"]


@pytest.mark.parametrize("name", SOURCES)
def test_the_revision_is_read_from_its_deployment(name: str) -> None:
    revision = samples.revision(function(name), note="back to 5", source=5)
    manifests = render_manifests(revision, samples.render_context(revision.function))
    deployment = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")
    assert type(revision).from_deployment(deployment) == revision


def test_manifests_contain_no_secrets() -> None:
    sample = function("secrets")
    revision = samples.revision(sample)
    context = samples.render_context(sample)
    assert "LEAKED" in SOURCES["secrets"][0].read_text()
    for manifests in (render_manifests(revision, context), render_portable(revision, context)):
        assert "LEAKED" not in text_of(manifests)


def test_values_of_secret_variables_are_not_in_portable_manifests() -> None:
    sample = function("secret-variables")
    revision, context = samples.revision(sample), samples.render_context(sample)
    text = text_of(render_portable(revision, context))
    assert "LEAKED" not in text
    assert text_of(render_manifests(revision, context)).count("LEAKED-own") > 2
    [requirement] = prerequisites(revision)
    assert "LEAKED" not in requirement
    for key in ("DB_PASSWORD", "proxy.DB_PASSWORD", "API_TOKEN", "BROKER", "FETCH_SECRET"):
        assert f"--from-literal={key}=…" in requirement
        assert f"key: {key}" in text
    assert "MODEL" not in requirement
    assert (
        f"kubectl create secret generic nuclio-secret-variables -n {sample.metadata.namespace}"
        in (requirement)
    )


def test_every_golden_file_has_a_function() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*SOURCES}
