"""What is said of revisions on record, on every platform."""

from __future__ import annotations

from fnbuild.platforms import history


def test_code_that_is_in_the_configuration() -> None:
    plain = history.without_code("greeter", None)
    assert "--path FOLDER" in (plain.hint or "")
    inline = history.without_code("greeter", {"spec": {"build": {"functionSourceCode": "ZGVm"}}})
    assert "builds it from the source" in (inline.hint or "")
