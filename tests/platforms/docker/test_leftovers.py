"""The leftovers that `prune` finds on an engine, and the objects that it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fnbuild.builder.image.references import immutable_reference
from fnbuild.cli.app import run
from fnbuild.deploy import artifacts, prune
from fnbuild.deploy.pipeline import DeployRequest, prepare
from fnbuild.deploy.prune import PruneRequest
from fnbuild.errors import UnavailableError
from fnbuild.platforms import ImageUse, Leftover, lookup
from fnbuild.platforms.docker import DockerPlatform
from fnbuild.platforms.leases import local_owner
from tests.engine import PYTHON_IMAGE, free_port
from tests.platforms.docker.author import Author

pytestmark = pytest.mark.system


def find_leftovers(
    author: Author, name: str, *, include_user_tagged: bool = False
) -> list[Leftover]:
    request = PruneRequest(author.namespace, (name,), include_user_tagged=include_user_tagged)
    return prune.find_leftovers(author.platform, request).leftovers


def build(folder: Path, author: Author) -> str:
    """Build an image of the function, and return its id."""
    loaded = prepare(DeployRequest(path=folder, namespace=author.namespace)).loaded
    return artifacts.build_image(loaded, author.resources.engine, lambda _: None).id


def test_images_that_no_revision_needs_are_removed(
    author: Author, platform: DockerPlatform
) -> None:
    name = author.resources.name("faces")
    first = build(author.write("one", name=name), author)
    folder = author.write("two", name=name)
    second = build(folder, author)
    image = f"{author.resources.name(name)}:latest"
    author.docker("tag", second, immutable_reference(image, second))
    # The second image took the name of the first.
    [unnamed, tagged] = sorted(
        find_leftovers(author, name), key=lambda item: item.name.count("fnbuild-")
    )
    assert (unnamed.kind, unnamed.name, unnamed.function) == ("image", first, name)
    assert unnamed.size > 0
    assert (tagged.name, tagged.size) == (immutable_reference(image, second), 0)
    report = prune.find_leftovers(platform, PruneRequest(author.namespace, (name,)))
    assert report.kept_by_user_tags == [name]
    for leftover in (unnamed, tagged):
        assert prune.remove_leftover(platform, leftover) == ""
    assert find_leftovers(author, name) == []
    assert author.docker("images", "--quiet", image) != ""

    author.deploy(folder)
    assert find_leftovers(author, name, include_user_tagged=True) == []
    platform.delete(author.namespace, name)
    [named] = find_leftovers(author, name, include_user_tagged=True)
    assert named.name == image
    assert prune.remove_leftover(platform, named) == ""
    assert author.docker("images", "--quiet", "--no-trunc", "--all").count(second) == 0


def test_an_unknown_function_next_to_one_with_images_is_an_error(
    author: Author, platform: DockerPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    name = author.resources.name("faces")
    build(author.write("one", name=name), author)
    arguments = ["--platform", "local", "-n", author.namespace, "--dry-run"]
    assert run(["prune", name, *arguments]) == 0
    assert "a name of yours keeps: 1" in capsys.readouterr().err
    assert run(["prune", name, "nowhere", *arguments]) == 1
    assert "there is no function nowhere" in capsys.readouterr().err


def test_an_image_of_a_container_is_kept(author: Author, platform: DockerPlatform) -> None:
    name = author.resources.name("used")
    build(author.write("one", name=name), author)
    [image] = find_leftovers(author, name, include_user_tagged=True)
    author.docker("create", "--name", author.resources.name("user"), image.name)
    assert prune.remove_leftover(platform, image) == "a container or another image uses it"
    author.docker("rm", "--force", author.resources.name("user"))
    assert prune.remove_leftover(platform, image) == ""


def test_images_are_kept_while_a_cluster_does_not_answer(
    author: Author, platform: DockerPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = author.resources.name("held")
    build(author.write("one", name=name), author)
    file = tmp_path / "kubeconfig"
    entry = {"name": "gone", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "me"}}
    contexts = {"clusters": [entry], "users": [{"name": "me", "user": {}}], "contexts": [context]}
    file.write_text(json.dumps({"current-context": "gone", **contexts}))
    monkeypatch.setenv("KUBECONFIG", str(file))
    request = PruneRequest(author.namespace, (name,), include_user_tagged=True)
    result = prune.find_leftovers(platform, request)
    assert result.leftovers == []
    assert "images stay" in result.warnings[0]


def test_images_of_current_deploys_are_kept(author: Author, platform: DockerPlatform) -> None:
    name = author.resources.name("busy")
    folder = author.write("one", name=name)
    build(folder, author)
    use = ImageUse(changing_functions=frozenset({name}))
    image = author.resources.engine.inspect(f"{author.resources.name(name)}:latest")
    assert image is not None
    assert prune._may_change(name, use)
    assert not prune._is_needed(image, use)
    assert prune._is_needed(image, ImageUse(frozenset({image.id})))


def test_a_trial_container_of_a_killed_deploy_is_removed(
    author: Author, platform: DockerPlatform
) -> None:
    author.deploy(author.write())
    trial = f"{author.container()}.fnbuild-candidate"
    labels = {
        "nuclio.io/platform": "local",
        "nuclio.io/namespace": author.namespace,
        "nuclio.io/function-name": "greeter",
        "fnbuild.io/candidate": "2",
        "fnbuild.io/owner": local_owner(),
    }
    label_flags = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    author.docker("create", "--name", trial, *label_flags, PYTHON_IMAGE, "true")
    leftovers = [
        leftover for leftover in lookup("local").leftovers() if author.namespace in leftover.name
    ]
    assert [(item.kind, item.name, item.function) for item in leftovers] == [
        ("container", trial, "greeter")
    ]
    assert prune.remove_leftover(platform, leftovers[0]) == ""
    assert trial not in author.docker("ps", "--all", "--format", "{{.Names}}")
    assert author.deployment().state == "ready"


def test_an_unreachable_registry_of_the_request_is_an_error(platform: DockerPlatform) -> None:
    registry = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match=registry):
        prune.find_leftovers(platform, PruneRequest("nuclio", registries=(registry,)))
