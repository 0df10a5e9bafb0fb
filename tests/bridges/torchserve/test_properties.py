"""Properties as Java reads them, their places in the text, and edits."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnbuild.bridges.torchserve.properties import (
    parse_properties,
    render_property,
    set_values,
)

TEXT = """\
# comment
  ! another
inference_address=http://0.0.0.0:8085
   install_py_dep_per_model = true # not a comment
model_snapshot={"a"\\: \\
    1}
path:/a\\tb
empty
"""


def read_properties(text: str) -> dict[str, str]:
    return {item.key: item.value for item in parse_properties(text)}


def test_keys_and_values_have_the_forms_that_java_knows() -> None:
    assert read_properties(TEXT) == {
        "inference_address": "http://0.0.0.0:8085",
        "install_py_dep_per_model": "true # not a comment",
        "model_snapshot": '{"a": 1}',
        "path": "/a\tb",
        "empty": "",
    }


def test_places_are_those_in_the_text() -> None:
    snapshot = parse_properties(TEXT)[2]
    assert TEXT[snapshot.start : snapshot.key_end] == "model_snapshot"
    assert TEXT[snapshot.value_start : snapshot.end] == '{"a"\\: \\\n    1}'


def test_values_are_replaced_and_the_rest_is_kept() -> None:
    changed = set_values(TEXT, {"path": " /x\\y", "model_snapshot": "{}", "empty": "1", "new": "ü"})
    assert changed == TEXT.replace('{"a"\\: \\\n    1}', "{}").replace(
        "path:/a\\tb", "path=\\ /x\\\\y"
    ).replace("empty\n", "empty=1\nnew=\\u00fc\n")
    assert set_values("a=1", {"b": "2"}) == "a=1\nb=2\n"
    assert set_values("", {"b": "2"}) == "b=2\n"


class Java:
    """A Java process that reads properties."""

    def __init__(self) -> None:
        source = Path(__file__).with_name("ReadProperties.java")
        command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(source)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)

    def read(self, files: list[bytes]) -> list[dict[str, str] | None]:
        """Return the properties of files, None for those at which Java raises an exception."""
        stdin = self._process.stdin
        assert stdin is not None
        # One write and one answer, because each switch between the processes takes time.
        stdin.write(b"".join(struct.pack(">i", len(data)) + data for data in files))
        stdin.flush()
        return [self._properties() for _ in files]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _properties(self) -> dict[str, str] | None:
        count = self._integer()
        return None if count < 0 else {self._text(): self._text() for _ in range(count)}

    def _integer(self) -> int:
        assert self._process.stdout is not None
        return struct.unpack(">i", self._process.stdout.read(4))[0]

    def _text(self) -> str:
        assert self._process.stdout is not None
        data = self._process.stdout.read(2 * self._integer())
        return "".join(chr(unit[0]) for unit in struct.iter_unpack(">H", data))


@pytest.fixture(scope="module")
def java() -> Iterator[Java]:
    if shutil.which("javac") is None:
        pytest.skip("no JDK on this machine")
    process = Java()
    yield process
    process.close()


# Characters that have a meaning in properties are frequent. Java reads others as ISO-8859-1.
texts = st.lists(st.sampled_from([*"ab=: \t\f\\\n\r#!n", "\\u00e9", "\\t"]), max_size=40).map(
    "".join
)


@pytest.mark.system
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=st.lists(texts, min_size=40, max_size=80))
def test_java_reads_the_same(java: Java, files: list[str]) -> None:
    for text, expected in zip(files, java.read([text.encode() for text in files]), strict=True):
        properties = read_properties(text)
        assert expected is not None, text
        # For Java, a lone backslash at the end of a file is a property without a key.
        expected.pop("", None)
        properties.pop("", None)
        assert expected == properties, text


@pytest.mark.system
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    values=st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=20), max_size=30),
)
def test_java_reads_what_is_written(java: Java, values: dict[str, str]) -> None:
    text = "".join(render_property(key, value) + "\n" for key, value in values.items())
    expected = {utf_16_units(key): utf_16_units(value) for key, value in values.items()}
    assert java.read([text.encode("ascii")]) == [expected]


def utf_16_units(text: str) -> str:
    """Return the text as Java counts its characters."""
    units = struct.iter_unpack(">H", text.encode("utf-16-be", "surrogatepass"))
    return "".join(chr(unit[0]) for unit in units)
