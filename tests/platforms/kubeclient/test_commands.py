"""Commands in the containers of pods."""

from __future__ import annotations

import pytest

from fnbuild.errors import NotFoundError, PlatformError, UnavailableError
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.commands import run_command
from tests.engine import PYTHON_IMAGE
from tests.platforms.kubeclient.pods import pod, until_phase

pytestmark = pytest.mark.system


def test_a_command_runs_in_a_container(cluster: Cluster, cluster_namespace: str) -> None:
    cluster.create(pod(cluster_namespace, "quiet", PYTHON_IMAGE, "import time; time.sleep(300)"))
    until_phase(cluster, cluster_namespace, "quiet", "Running")

    def run(code: str, seconds: float = 30.0) -> bytes:
        command = ["python3", "-c", code]
        return run_command(cluster, cluster_namespace, "quiet", "nuclio", command, seconds)

    # Quotes, blanks and line breaks stay as they are, and all of the output arrives.
    assert run("print('a  \"b\"\\n& c', end='')") == b'a  "b"\n& c'
    assert run("print('x' * 300_000, end='')") == b"x" * 300_000
    with pytest.raises(PlatformError, match="failed: exit status 3") as failure:
        run("import sys; sys.exit(print('no model', file=sys.stderr) or 3)")
    assert failure.value.detail == "no model"
    with pytest.raises(UnavailableError, match=r"quiet has not answered within 0\.5 s"):
        run("import time; time.sleep(5)", 0.5)
    with pytest.raises(NotFoundError, match="absent"):
        run_command(cluster, cluster_namespace, "absent", "nuclio", ["true"])
