"""Changes of a function's container outside of fnbuild, and its restoration."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fnbuild.datadir import function_lock, make_private_dir
from fnbuild.errors import BusyError, ConflictError, NotFoundError, NotReadyError, PreconditionError
from fnbuild.function.types import Raw
from fnbuild.platforms import Deployment, FunctionKey, LogOptions
from fnbuild.platforms.docker import DockerPlatform, inventory
from tests.engine import free_port, registry, until
from tests.platforms.docker.author import Author, invoke

pytestmark = pytest.mark.system


def answers(port: int, text: str) -> bool:
    try:
        return invoke(port) == text
    except OSError:
        return False


def test_restarted_stopped_and_killed_containers(author: Author) -> None:
    deployment = author.deploy(author.write("hello"))
    author.docker("restart", author.container())
    until("the answer", lambda: answers(deployment.http_port, "hello"))
    assert author.deployment().http_port == deployment.http_port

    author.docker("stop", author.container())
    stopped = author.deployment()
    assert (stopped.state, stopped.http_port) == ("stopped", 0)
    assert f"docker start {author.container()}" in stopped.message

    author.docker("start", author.container())
    until("the answer", lambda: answers(deployment.http_port, "hello"))
    processor = author.inspect_container()["State"]["Pid"]
    assert processor in author.platform.engine.processes(author.container())
    restarts = author.inspect_container()["RestartCount"]
    try:
        os.kill(processor, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        pytest.skip("the engine's processes are not this machine's, or not this user's")
    until("another start", lambda: author.inspect_container()["RestartCount"] == restarts + 1)
    until("the answer", lambda: answers(deployment.http_port, "hello"))
    assert author.deployment().http_port == deployment.http_port


def test_a_removed_container_is_created_again(author: Author, platform: DockerPlatform) -> None:
    deployment = author.deploy(author.write("hello"))
    key = FunctionKey(author.namespace, "greeter")
    assert key not in platform.functions_to_restore()
    assert platform.restore(author.progress.append, key) == ()
    author.docker("rm", "--force", author.container())
    removed = author.deployment()
    assert (removed.state, removed.http_port) == ("unhealthy", 0)
    assert "redeploy greeter" in removed.message
    assert key in platform.functions_to_restore()
    # A function that is being changed is not restored.
    with function_lock(*key, "deployed"), pytest.raises(ConflictError, match="being deployed"):
        platform.restore(author.progress.append, key)
    assert key in platform.functions_to_restore()
    assert platform.restore(author.progress.append, key) == ("greeter",)
    assert key not in platform.functions_to_restore()
    restored = author.deployment()
    assert (restored.state, restored.http_port, restored.revision) == (
        "ready",
        deployment.http_port,
        1,
    )
    assert invoke(restored.http_port) == "hello"
    # The function is unchanged, so a deploy of the same code has nothing to do.
    assert author.deploy(author.write("hello")).revision == 1

    author.docker("rm", "--force", author.container())
    redeployed = platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert redeployed.http_port == deployment.http_port
    assert invoke(redeployed.http_port) == "hello"
    assert author.deploy(author.write("goodbye")).revision == redeployed.revision + 1

    # Without its image it cannot be restored.
    image = author.inspect_container()["Image"]
    author.docker("rm", "--force", author.container())
    author.docker("rmi", "--force", image)
    with pytest.raises(PreconditionError, match="no code of greeter"):
        platform.restore(author.progress.append, key)
    assert key in platform.functions_to_restore()


def test_stopped_and_disabled_functions_are_not_restored(
    author: Author, platform: DockerPlatform
) -> None:
    key = FunctionKey(author.namespace, "greeter")
    author.deploy(author.write("hello"))
    for command in (("pause",), ("unpause",), ("stop",), ("start",), ("kill",), ("start",)):
        author.docker(*command, author.container())
        assert key not in platform.functions_to_restore(), command
        assert platform.restore(author.progress.append, key) == ()
    author.deploy(author.write("hello", spec="disable: true"))
    assert key not in platform.functions_to_restore()
    author.docker("rm", "--force", author.container())
    assert key not in platform.functions_to_restore()
    platform.delete(*key)
    assert key not in platform.functions_to_restore()


def test_restore_finishes_a_switch_of_a_killed_deploy(
    author: Author, platform: DockerPlatform
) -> None:
    key = FunctionKey(author.namespace, "greeter")
    deployment = author.deploy(author.write("hello"))
    author.docker("stop", author.container())
    # The new container was created but never started.
    engine = platform.engine
    [container] = engine.containers((f"nuclio.io/namespace={author.namespace}",))
    config = {
        "Image": container["ImageID"],
        "Labels": {**container["Labels"], "fnbuild.io/revision": "2"},
    }
    engine.create(f"{author.container()}.fnbuild-next", config)
    assert key in platform.functions_to_restore()
    assert platform.restore(author.progress.append, key) == ("greeter",)
    assert invoke(deployment.http_port) == "hello"
    assert len(engine.containers((f"nuclio.io/namespace={author.namespace}",))) == 1
    assert key not in platform.functions_to_restore()


def test_a_deploy_from_elsewhere_is_reported(
    author: Author, platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = FunctionKey(author.namespace, "greeter")
    folder = author.write("hello")
    author.deploy(folder)
    engine, deployments = platform.engine, list[Deployment]()
    create = engine.create

    def creating(name: str, config: Raw) -> str:
        container_id = create(name, config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FNBUILD_DATA_DIR", str(make_private_dir(tmp_path / "elsewhere")))
            deployments.extend([platform.deployment(*key), *platform.deployments(author.namespace)])
            with pytest.raises(BusyError, match="is being redeployed from"):
                platform.redeploy(*key, author.progress.append)
        return container_id

    monkeypatch.setattr(engine, "create", creating)
    author.platform.redeploy(*key, author.progress.append)
    assert len(deployments) >= 2
    for current in deployments:
        assert (current.state, current.replicas, current.revision) == ("building", (1, 1), 1)
        assert current.message == f"it is {current.ongoing_change}"
        assert current.ongoing_change.startswith("being redeployed from ")
    assert author.deployment().ongoing_change == ""


def test_restore_continues_after_a_function_that_cannot_be_restored(
    author: Author, platform: DockerPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Functions of other users of this engine are left alone.
    monkeypatch.setattr(
        "fnbuild.platforms.docker.restoration.inventory.list_all_functions",
        lambda engine: inventory.list_functions(engine, author.namespace),
    )
    for name in ("greeter", "other"):
        author.deploy(author.write("hello", name=name))
        author.docker("rm", "--force", author.container(name))
    with function_lock(author.namespace, "other", "deployed"):
        progress: list[str] = []
        assert platform.restore(progress.append) == ("greeter",)
    assert any(line.startswith("other: other is being deployed") for line in progress)


def test_a_disabled_function_is_in_standby_until_enabled(author: Author) -> None:
    deployment = author.deploy(author.write("hello"))
    disabled = author.deploy(author.write("hello", spec="disable: true"))
    assert (disabled.state, disabled.http_port, disabled.replicas) == ("standby", 0, (0, 0))
    assert author.inspect_container()["HostConfig"]["RestartPolicy"]["Name"] == "no"
    enabled = author.deploy(author.write("hello"))
    assert (enabled.state, enabled.http_port) == ("ready", deployment.http_port)


def test_a_model_above_the_memory_limit_is_reported(author: Author) -> None:
    code = """
    model = []

    def init_context(context):
        for _ in range(400):
            model.append(bytearray(1 << 20))

    def handler(context, event):
        return "hello"
    """
    spec = "resources: {limits: {memory: 64Mi}}"
    with pytest.raises(NotReadyError) as failure:
        author.deploy(author.write_code(code, spec=spec))
    assert "out of memory (spec.resources.limits.memory lets it have 64Mi" in failure.value.message
    deployment = author.deployment()
    assert deployment.state == "error"
    assert "out of memory" in deployment.message


def test_an_init_context_timeout_is_reported(author: Author) -> None:
    code = """
    import time

    def init_context(context):
        time.sleep(60)

    def handler(context, event):
        return "hello"
    """
    message = r"did not finish within 8 s.*main\.py:5, in init_context"
    with pytest.raises(NotReadyError, match=message):
        author.deploy(author.write_code(code, spec="readinessTimeoutSeconds: 8"))
    assert author.deployment().state == "error"


def test_the_output_of_a_processor_that_exits_is_shown(author: Author, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    spec = f"""
    volumes:
    - volume: {{name: v, hostPath: {{path: {empty}}}}}
      volumeMount: {{name: v, mountPath: /opt/fnbuild}}
    """
    with pytest.raises(NotReadyError, match="exit status 1") as failure:
        author.deploy(author.write("hello", spec=spec))
    assert "No module named 'fnbuild'" in (failure.value.detail or "")
    [record] = author.platform.logs(author.namespace, "greeter")
    assert "No module named 'fnbuild'" in record.message


def test_following_logs_continues_in_the_next_container(
    author: Author, platform: DockerPlatform
) -> None:
    code = """
    def init_context(context):
        context.logger.info("WORD is loaded")

    def handler(context, event):
        return "WORD"
    """
    author.deploy(author.write_code(code.replace("WORD", "one")))
    records = platform.logs(author.namespace, "greeter", LogOptions(follow=True))
    messages = [next(record.message for record in records if "is loaded" in record.message)]
    author.deploy(author.write_code(code.replace("WORD", "two")))
    messages.append(next(record.message for record in records if "is loaded" in record.message))
    assert messages == ["one is loaded", "two is loaded"]
    platform.delete(author.namespace, "greeter")
    assert [record.message for record in records if "is loaded" in record.message] == []


def test_delete_removes_the_registry_tag_of_the_image(
    author: Author, platform: DockerPlatform, tmp_path: Path
) -> None:
    folder = author.write("hello")
    file = folder / "function.yaml"
    with registry(tmp_path, free_port()) as server:
        file.write_text(
            file.read_text().replace("build:", f"build:\n    registry: {server.address}")
        )
        image = author.deploy(folder).details["image"]
        pushed = f"{server.address}/{image}"
        author.resources.images.append(pushed)
        assert author.docker("images", "-q", pushed) != ""
        assert platform.delete(author.namespace, "greeter", image=True) is True
        assert author.docker("images", "-q", pushed) == ""


def test_delete_removes_all_objects_of_the_function(
    author: Author, platform: DockerPlatform
) -> None:
    deployment = author.deploy(author.write("hello"))
    image = deployment.details["image"]
    assert platform.delete(author.namespace, "greeter", image=True) is True
    assert author.docker("ps", "-aq", "--filter", f"name={author.namespace}") == ""
    assert author.docker("volume", "ls", "-q", "--filter", f"name={author.namespace}") == ""
    assert author.docker("images", "-q", image) == ""
    with pytest.raises(NotFoundError):
        author.deployment()


def test_a_tail_is_limited_while_the_log_grows(author: Author, platform: DockerPlatform) -> None:
    code = """
    import threading
    import time

    def write():
        while True:
            print("more")
            time.sleep(0.001)

    def init_context(context):
        print("loading the weights")
        threading.Thread(target=write, daemon=True).start()

    def handler(context, event):
        return "hello"
    """
    author.deploy(author.write_code(code))
    # The deploy shows its output during the start.
    assert "| loading the weights" in author.progress
    until(
        "lines",
        lambda: len(list(platform.logs(author.namespace, "greeter", LogOptions(tail=5)))) == 5,
    )
    for _ in range(5):
        assert len(list(platform.logs(author.namespace, "greeter", LogOptions(tail=5)))) == 5
