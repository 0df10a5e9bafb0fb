"""Log lines in the form that nodes send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fnbuild.platforms.kubeclient.streams import timestamped_lines

START = b"2026-11-20T15:00:00.5Z "
SECOND = 10**9


class Reply:
    """A response that is received in pieces."""

    def __init__(self, text: bytes):
        self._text = text

    def stream(self, _: int) -> Iterator[bytes]:
        yield from (self._text[at : at + 7] for at in range(0, len(self._text), 7))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (START + b"one\n" + START + b"two\n", [b"one", b"two"]),
        (START + b"one\nof an older node\n", [b"one", b"of an older node"]),
        (b"unable to retrieve container logs for docker://c0de", []),
        (START + b"one\nunable to retrieve container logs for docker://c0de", [b"one"]),
        (b'failed to try resolving symlinks in path "/var/log/pods/a"\n', []),
    ],
)
def test_messages_of_the_node_are_not_log_lines(text: bytes, lines: list[bytes]) -> None:
    stamped_lines = list(timestamped_lines(Reply(text)))
    assert [line for _, line in stamped_lines] == lines
    assert all(moment % SECOND == SECOND // 2 for moment, _ in stamped_lines)
