"""The choice of a cluster, and errors of all kinds of kubeconfigs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from fnbuild.cli.session import GLOBAL_OPTIONS, Session
from fnbuild.errors import FnbuildError, UnauthorizedError, UnavailableError
from fnbuild.function.types import Raw
from fnbuild.platforms import ConnectOptions
from fnbuild.platforms.kubeclient import connection, kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import authority_of, kubeconfig_of
from tests.engine import require_program

pytestmark = pytest.mark.system

SECRET = "c2VjcmV0LXRva2Vu"

Write = Callable[..., Path]


def config(
    *names: str, current: str = "", server: str = "https://127.0.0.1:1", **user: object
) -> Raw:
    """Return a kubeconfig with these contexts; each has a cluster and a user of its name."""
    return {
        "current-context": current,
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": f"of-{name}"}}
            for name in names
        ],
        "clusters": [{"name": name, "cluster": {"server": server}} for name in names],
        "users": [{"name": name, "user": {"token": SECRET}} for name in names],
    }


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return `write(*contents)`, which writes kubeconfigs and sets KUBECONFIG."""
    monkeypatch.delenv("FNBUILD_CONTEXT", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def write_files(*contents: Raw | str) -> Path:
        files = []
        for number, content in enumerate(contents):
            file = tmp_path / f"config-{number}"
            file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
            files.append(str(file))
        monkeypatch.setenv("KUBECONFIG", ":".join(files))
        return Path(files[0])

    return write_files


def connection_error(action: Callable[[], object] = connection.connect) -> FnbuildError:
    with pytest.raises(FnbuildError) as caught:
        action()
    message = f"{caught.value} {caught.value.hint} {caught.value.detail}"
    assert SECRET not in message
    assert "Traceback" not in message
    return caught.value


def test_a_missing_kubeconfig_is_an_error(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "")
    assert not connection.is_configured()
    assert str(tmp_path / ".kube/config") in connection_error().message
    assert connection.default_namespace() == ""
    monkeypatch.setenv("KUBECONFIG", "/nowhere/a:/nowhere/b")
    assert "/nowhere/a does not exist, /nowhere/b does not exist, and" in connection_error().message
    write("", {"apiVersion": "v1", "kind": "Config", "clusters": []})
    message = connection_error().message
    assert "config-0 is empty, " in message
    assert "config-1 has no contexts, and this does not run in a pod" in message


def test_the_current_or_the_requested_context_is_used(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config("a", "b", current="b"))
    assert connection.is_configured()
    assert (connection.connect().context, connection.default_namespace()) == ("b", "of-b")
    monkeypatch.setenv("FNBUILD_CONTEXT", "a")
    assert (connection.connect().context, connection.default_namespace()) == ("a", "of-a")
    monkeypatch.setenv("FNBUILD_CONTEXT", "c")
    error = connection_error()
    assert 'no context "c"' in error.message
    assert error.hint is not None
    assert "a, b" in error.hint


def test_options_take_precedence_over_the_environment(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config("a", "b", current="b"))
    other = tmp_path / "other"
    other.write_text(yaml.safe_dump(config("c", "d", current="d")))
    monkeypatch.setenv("FNBUILD_CONTEXT", "c")
    selected = connection.connect(ConnectOptions(kubeconfig=str(other)))
    assert selected.context == "c"
    assert connection.default_namespace(ConnectOptions(str(other), "d")) == "of-d"
    assert connection.connect(ConnectOptions(context="a")).context == "a"
    session = Session()
    click.Command("x", params=list(GLOBAL_OPTIONS)).make_context(
        "x", ["--kubeconfig", str(other), "--context", "d"], obj=session
    )
    assert session.connect_options == ConnectOptions(str(other), "d")
    assert os.environ["FNBUILD_CONTEXT"] == "c"
    assert os.environ["KUBECONFIG"] != str(other)


def test_the_first_of_several_files_takes_precedence(write: Write) -> None:
    write(
        config("a", current="a", server="https://127.0.0.1:1"),
        config("a", "b", current="b", server="https://127.0.0.1:2"),
    )
    cluster = connection.connect()
    assert (cluster.context, cluster.server) == ("a", "https://127.0.0.1:1")


def test_paths_are_relative_to_the_kubeconfig(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = config("a", current="a")
    content["users"][0]["user"] = {"tokenFile": "token"}
    write(content)
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.chdir("/")
    assert connection.connect().transport.access.authorization() == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"users: [{{token: {SECRET}\nx", "is not valid YAML"),
        ("- a\n- b\n", "not a mapping"),
        (f"contexts: {{token: {SECRET}}}\n", "`contexts` is not a list"),
        (f"users: [{SECRET}]\n", "`users` has an entry without"),
        ("current-context: a\n", 'no context "a"'),
    ],
)
def test_invalid_kubeconfigs_are_reported(write: Write, text: str, message: str) -> None:
    file = write(text)
    error = connection_error()
    assert message in error.message
    assert str(file) in error.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["clusters"].clear(), 'names cluster "a"'),
        (lambda config: config["users"].clear(), 'names user "a"'),
        (lambda config: config["clusters"][0]["cluster"].clear(), "has no server"),
        (
            lambda config: config["contexts"].append({"context": {}}),
            "`contexts` has an entry without",
        ),
        (lambda config: config.pop("current-context"), "there is no current context"),
        (
            lambda config: config["users"][0]["user"].update({"as": "root"}),
            "impersonates another one",
        ),
        (
            lambda config: config["clusters"][0]["cluster"].update(
                {"certificate-authority": "gone.crt"}
            ),
            "gone.crt",
        ),
        (
            lambda config: config["users"][0]["user"].update(
                {"token": None, "client-certificate-data": SECRET[:-1]}
            ),
            "cannot be used for context a",
        ),
    ],
)
def test_incomplete_entries_are_reported(
    write: Write, change: Callable[[Raw], object], message: str
) -> None:
    content = config("a", current="a")
    change(content)
    write(content)
    assert message in connection_error().message


def test_a_missing_plugin_is_reported(write: Write) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-login"}
    content = config("a", current="a")
    content["users"][0]["user"] = {"exec": {**plugin, "installHint": "get it from your cloud"}}
    write(content)
    error = connection_error()
    assert "no-such-login, which is not installed" in error.message
    assert error.hint == "get it from your cloud"


def test_a_failing_plugin_is_reported(
    write: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "login"
    program.write_text("#!/bin/sh\necho please log in >&2\nexit 3\n")
    program.chmod(0o755)
    content = config("a", current="a")
    content["users"][0]["user"] = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "./login"}
    }
    write(content)
    error = connection_error()
    assert "failed" in error.message
    assert "please log in" in (error.detail or "")
    assert capfd.readouterr().err == ""


def test_a_plugin_provides_credentials(
    write: Write, cluster: Cluster, cluster_namespace: str, tmp_path: Path
) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    file = kubeconfig_of(cluster, cluster_namespace, "plugged", rules, tmp_path / "plugged")
    content = json.loads(file.read_text())
    version = "client.authentication.k8s.io/v1beta1"
    answer = {
        "apiVersion": version,
        "kind": "ExecCredential",
        "status": {"token": content["users"][0]["user"]["token"]},
    }
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    content["users"][0]["user"] = {
        "exec": {"apiVersion": version, "command": "cat", "args": [str(tmp_path / "answer.json")]}
    }
    write(content)
    assert connection.connect().list(kinds.POD, cluster_namespace) == []


# Unreachable and wrong servers


def test_an_unreachable_server_is_reported(write: Write) -> None:
    file = write(config("a", current="a"))
    error = connection_error(lambda: connection.connect().version)
    assert isinstance(error, UnavailableError)
    assert f"https://127.0.0.1:1 (context a of {file}): the connection is refused" in error.message


def test_an_unknown_host_name_is_reported(write: Write) -> None:
    write(config("a", current="a", server="https://no-such-cluster.invalid"))
    assert (
        "name cannot be resolved" in connection_error(lambda: connection.connect().version).message
    )


def without_credentials(cluster: Cluster) -> Raw:
    """Return a kubeconfig of the current cluster without any credentials."""
    content = config("a", current="a", server=cluster.server)
    authority = base64.b64encode(authority_of(cluster)).decode()
    content["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    return content


def test_a_certificate_of_another_authority_is_reported(
    write: Write, cluster: Cluster, tmp_path: Path
) -> None:
    content = without_credentials(cluster)
    del content["clusters"][0]["cluster"]["certificate-authority-data"]
    write(content)
    error = connection_error(lambda: connection.connect().version)
    assert "from another authority" in error.message


def test_a_certificate_for_another_name_is_reported(write: Write, cluster: Cluster) -> None:
    content = without_credentials(cluster)
    content["clusters"][0]["cluster"]["tls-server-name"] = "other.example"
    write(content)
    assert "is for another name" in connection_error(lambda: connection.connect().version).message


def test_an_unknown_token_is_reported(write: Write, cluster: Cluster) -> None:
    write(without_credentials(cluster))
    error = connection_error(lambda: connection.connect().list(kinds.POD, "default"))
    assert isinstance(error, UnauthorizedError)
    assert "does not accept this user's credentials" in error.message


def test_an_expired_client_certificate_is_reported(
    write: Write, cluster: Cluster, tmp_path: Path
) -> None:
    openssl = require_program("openssl")
    key, request, certificate = (str(tmp_path / name) for name in ("key.pem", "request.pem", "ann"))
    request_options = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ann"]
    subprocess.run([openssl, *request_options, "-keyout", key, "-out", request], check=True)
    sign_options = [
        "x509",
        "-req",
        "-in",
        request,
        "-signkey",
        key,
        "-days",
        "-1",
        "-out",
        certificate,
    ]
    subprocess.run([openssl, *sign_options], check=True)
    content = without_credentials(cluster)
    content["users"][0]["user"] = {"client-certificate": "ann", "client-key": "key.pem"}
    write(content)
    error = connection_error(lambda: connection.connect().list(kinds.POD, "default"))
    assert isinstance(error, UnauthorizedError)
    day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
    assert f"expired on {day}" in error.message


def test_proxies_are_not_used_for_this_machine(
    write: Write, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://user:word@127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    write(without_credentials(cluster))
    assert connection.connect().transport.access.proxy == ""
    content = without_credentials(cluster)
    content["clusters"][0]["cluster"]["proxy-url"] = "http://user:word@127.0.0.1:9"
    write(content)
    error = connection_error(lambda: connection.connect().version)
    assert "the proxy http://127.0.0.1:9 does not reach" in error.message
    assert "word" not in error.message


def test_a_proxy_of_the_environment_is_used(
    write: Write, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    write(config("a", current="a", server="https://10.1.2.3:6443"))
    access = connection.connect().transport.access
    assert access.proxy == "http://127.0.0.1:9"
    assert access.websocket_options()["http_proxy_port"] == 9
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert connection.connect().transport.access.proxy == ""


def test_an_unverified_server_causes_no_warning(
    write: Write, cluster: Cluster, recwarn: pytest.WarningsRecorder
) -> None:
    content = without_credentials(cluster)
    entry = content["clusters"][0]["cluster"]
    del entry["certificate-authority-data"]
    entry["insecure-skip-tls-verify"] = True
    write(content)
    with pytest.raises(UnauthorizedError):
        connection.connect().list(kinds.POD, "default")
    assert not recwarn.list


@pytest.mark.parametrize("inline", [True, False])
def test_a_client_certificate_is_sent(
    write: Write, cluster: Cluster, tmp_path: Path, inline: bool
) -> None:
    openssl = require_program("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "own.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ann", "-days", "2"]
    subprocess.run([openssl, *request, "-keyout", str(key), "-out", str(certificate)], check=True)
    content = without_credentials(cluster)
    user = {"client-certificate": "own.pem", "client-key": "key.pem"}
    if inline:
        user = {
            "client-certificate-data": base64.b64encode(certificate.read_bytes()).decode(),
            "client-key-data": base64.b64encode(key.read_bytes()).decode(),
        }
    content["users"][0]["user"] = user
    write(content)
    # The certificate is not signed by the authority of the cluster.
    error = connection_error(lambda: connection.connect().list(kinds.POD, "default"))
    assert isinstance(error, UnauthorizedError)


def test_a_key_with_a_password_is_refused(write: Write, tmp_path: Path) -> None:
    openssl = require_program("openssl")
    request = ["req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=ann", "-passout", "pass:word"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "own.pem")]
    subprocess.run([openssl, *request, *files], check=True)
    content = config("a", current="a")
    content["users"][0]["user"] = {"client-certificate": "own.pem", "client-key": "key.pem"}
    write(content)
    assert "are not a PEM certificate and its key" in connection_error().message


def test_a_user_may_have_a_password(write: Write) -> None:
    content = config("a", current="a")
    content["users"][0]["user"] = {"username": "ann", "password": "word"}
    write(content)
    access = connection.connect().transport.access
    assert access.authorization() == f"Basic {base64.b64encode(b'ann:word').decode()}"


def test_the_service_account_is_used_in_a_pod(
    write: Write,
    cluster: Cluster,
    cluster_namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    file = kubeconfig_of(cluster, cluster_namespace, "inside", rules, tmp_path / "inside")
    account = tmp_path / "account"
    account.mkdir()
    token = json.loads(file.read_text())["users"][0]["user"]["token"]
    (account / "token").write_text(token)
    (account / "ca.crt").write_bytes(authority_of(cluster))
    (account / "namespace").write_text(cluster_namespace)
    host, port = cluster.server.removeprefix("https://").split(":")
    monkeypatch.setattr(connection, "_SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    assert connection.is_configured()
    assert connection.default_namespace() == cluster_namespace
    client = connection.connect()
    assert (client.in_cluster, client.context, client.namespace) == (True, "", cluster_namespace)
    assert client.list(kinds.POD, cluster_namespace) == []
