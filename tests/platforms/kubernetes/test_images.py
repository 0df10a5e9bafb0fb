"""Images in a registry are kept while a revision needs them, and no longer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild.builder.image.builder import BuiltImage
from fnbuild.builder.image.registry import PushedBuild, RegistryClient, parse_pushed_build
from fnbuild.deploy import artifacts, prune
from fnbuild.deploy.pipeline import prepare
from fnbuild.deploy.prune import PruneRequest
from fnbuild.errors import NotReadyError
from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment, Leftover
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubernetes import KubernetesPlatform, leases
from tests import engine as engines
from tests.cluster import ask, kubeconfig_of, require_local_node
from tests.engine import call, free_port, require_engine, until
from tests.platforms.kubernetes.author import Author

pytestmark = pytest.mark.system

BROKEN = """
def init_context(context):
    raise ValueError("the weights are missing")

def handler(context, event):
    return ""
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.Registry]:
    """A registry whose garbage may be collected. The first push uploads the base image."""
    folder = tmp_path_factory.mktemp("registry")
    with engines.registry(folder, free_port(), own=True) as registry:
        yield registry


@pytest.fixture
def own(registry: engines.Registry, author: Author) -> Iterator[engines.Registry]:
    """The registry; the engine's images of it are removed after the test."""
    require_local_node(author.platform.cluster)
    engine = require_engine()
    yield registry
    images = call(engine, "images", "--quiet", "--filter", f"reference={registry.address}/*")
    call(engine, "rmi", "--force", *dict.fromkeys(images.split()))


def with_registry(folder: Path, own: engines.Registry) -> Path:
    file = folder / "function.yaml"
    text = file.read_text()
    file.write_text(text.replace("  build:\n", f"  build:\n    registry: {own.address}\n"))
    return folder


def deploy(author: Author, own: engines.Registry, word: str) -> Deployment:
    return author.deploy(with_registry(author.write(word), own))


def build_of(deployment: Deployment) -> PushedBuild:
    found = parse_pushed_build(str(deployment.details["pinned"]))
    assert found is not None, deployment.details
    return found


def is_whole(own: engines.Registry, build: PushedBuild) -> bool:
    """Whether the registry has the manifest of a build and everything that it names."""
    base = f"http://{own.address}/v2/{build.repository.name}"
    kind = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    try:
        request = urllib.request.Request(f"{base}/manifests/{build.digest}", headers=kind)
        with urllib.request.urlopen(request, timeout=20) as reply:
            manifest = json.load(reply)
        for blob in (manifest["config"], *manifest["layers"]):
            head = urllib.request.Request(f"{base}/blobs/{blob['digest']}", method="HEAD")
            urllib.request.urlopen(head, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_the_image_that_serves_outlives_a_failed_deploy_and_a_collection(
    author: Author, own: engines.Registry
) -> None:
    first = build_of(deploy(author, own, "one"))
    registry, repository = RegistryClient(own.address), first.repository.name
    assert registry.digest(repository, "latest") == first.digest
    with pytest.raises(NotReadyError, match="did not become ready") as failure:
        author.deploy(with_registry(author.write_code(BROKEN), own))
    assert "the weights are missing" in f"{failure.value.message}{failure.value.detail}"
    assert registry.digest(repository, "latest") == first.digest
    assert len(registry.tags(repository)) == 3
    own.collect_garbage()
    assert is_whole(own, first)
    assert ask(author.shown().external_urls[0]) == "one"

    second = build_of(deploy(author, own, "two"))
    assert registry.digest(repository, "latest") == second.digest
    own.collect_garbage()
    rolled_back = author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert build_of(rolled_back) == first
    assert is_whole(own, first)


def test_builds_go_when_their_revisions_leave_history(
    author: Author, own: engines.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HISTORY_LIMIT", 2)
    engine, registry = require_engine(), RegistryClient(own.address)
    builds = {"one": build_of(deploy(author, own, "one"))}
    # A name that a user gave keeps the first.
    stable = f"{builds['one'].repository}:stable"
    call(engine, "tag", f"{builds['one'].repository}:latest", stable)
    call(engine, "push", stable)
    call(engine, "rmi", stable)
    # Another function keeps the second.
    shown = deploy(author, own, "two")
    builds["two"] = build_of(shown)
    author.run(str(shown.details["pinned"]), name="another")
    for word in ("three", "four", "five"):
        builds[word] = build_of(deploy(author, own, word))
    kept = {build.tag for word, build in builds.items() if word != "three"}
    assert set(registry.tags(builds["one"].repository.name)) == {"latest", "stable", *kept}
    assert f"removed {builds['three']}: revision 3 has left history" in author.progress


def test_a_redeploy_of_a_lost_image_names_the_remedy(author: Author, own: engines.Registry) -> None:
    build, engine = build_of(deploy(author, own, "one")), require_engine()
    assert RegistryClient(own.address).delete(build.repository.name, build.digest)
    cluster = author.platform.cluster
    cluster.delete(kinds.DEPLOYMENT, author.namespace, "nuclio-greeter")
    until("the end of the pods", lambda: not cluster.list(kinds.POD, author.namespace))
    reference = f"{build.repository}@{build.digest}"
    identity = call(engine, "image", "inspect", "--format", "{{.Id}}", reference).strip()
    call(engine, "rmi", "--force", identity)
    with pytest.raises(NotReadyError, match="no longer has the image") as failure:
        author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert "again from its folder" in (failure.value.hint or "")
    assert deploy(author, own, "one").state == "ready"


def test_prune_finds_builds_that_no_revision_needs(author: Author, own: engines.Registry) -> None:
    name = f"faces-{author.namespace[-8:]}"
    builds = [
        build_of(author.deploy(with_registry(author.write(word, name=name), own)))
        for word in ("one", "two", "three")
    ]
    registry, repository = RegistryClient(own.address), builds[0].repository.name
    request = PruneRequest(author.namespace, (name,), registries=(own.address,))

    def found() -> list[Leftover]:
        leftovers = prune.find_leftovers(author.platform, request).leftovers
        return [leftover for leftover in leftovers if leftover.kind == "registry tag"]

    assert found() == []
    author.platform.delete(author.namespace, name)
    # The third is still what `latest` means.
    expected = {f"{one}@{one.digest}" for one in builds[:2]}
    until("the end of the pods", lambda: {one.name for one in found()} == expected)
    assert {one.function for one in found()} == {name}
    for leftover in found():
        assert prune.remove_leftover(author.platform, leftover) == ""
    assert set(registry.tags(repository)) == {"latest", builds[2].tag}
    assert found() == []


def test_prune_leaves_builds_of_revisions_on_record(author: Author, own: engines.Registry) -> None:
    # A name of its own: builds of functions that are being deployed anywhere are left alone.
    name = f"kept-{author.namespace[-8:]}"
    folder = with_registry(author.write("one", name=name), own)
    build = build_of(author.deploy(folder))
    engine = require_engine()
    # Nobody's revision, and not built by fnbuild.
    foreign = f"{build.repository}:fnbuild-{'0' * 16}"
    call(engine, "tag", engines.PYTHON_IMAGE, foreign)
    call(engine, "push", foreign)
    call(engine, "rmi", foreign)
    # Built and pushed, then overtaken by another before it ran.

    def built(word: str) -> BuiltImage:
        request = author.request(with_registry(author.write(word, name=name), own))
        return artifacts.build_image(prepare(request).loaded, engine, author.progress.append)

    lost, last = built("two"), built("one")
    assert last.build_tag.endswith(build.tag)
    leftovers = prune.find_leftovers(
        author.platform, PruneRequest(author.namespace, (name,))
    ).leftovers
    tags = [
        leftover.name
        for leftover in leftovers
        if own.address in leftover.name and leftover.kind != "image"
    ]
    assert tags == [f"{lost.build_tag}@{lost.pushed_digest}"]


def test_who_sees_one_namespace_alone_removes_no_image(
    author: Author, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author.run(image)
    rules: list[Raw] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    cluster = author.platform.cluster
    file = kubeconfig_of(cluster, author.namespace, "one", rules, tmp_path / "kubeconfig")
    monkeypatch.setenv("KUBECONFIG", str(file))
    found = prune.find_leftovers(KubernetesPlatform(), PruneRequest(author.namespace, named=True))
    assert found.leftovers == []
    [warning] = found.warnings
    assert warning.startswith("images stay, since one may be needed: ")
