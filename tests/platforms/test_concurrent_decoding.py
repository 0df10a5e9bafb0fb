"""Messages of processors and supervisors are decoded by many threads at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

DECODING = """
import sys, threading
import msgspec
from {module} import {name}

sys.setswitchinterval(1e-6)
together = threading.Barrier(16)

def decode():
    together.wait()
    try:
        {name}(b"{{}}")
    except msgspec.MsgspecError:
        pass

threads = [threading.Thread(target=decode) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("fnbuild.platforms.processor_status", "decode_status"),
        ("fnbuild.platforms.process.supervisor_protocol", "decode_reply"),
        ("fnbuild.platforms.process.supervisor_protocol", "decode_request"),
    ],
)
def test_threads_may_decode_their_first_messages_concurrently(module: str, name: str) -> None:
    # The interpreter crashed more often than not if the type was completed on first use.
    program = DECODING.format(module=module, name=name)
    for _ in range(8):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        assert result.returncode == 0, result.stderr.decode()
