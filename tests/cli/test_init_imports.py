"""Options of `fnbuild init` for functions from other code."""

from __future__ import annotations

import click
import pytest

from fnbuild.cli.init_imports import import_options
from fnbuild.cli.init_models import labels_of_option
from fnbuild.errors import NotFoundError, UsageError


@click.command()
@import_options
def show(**options: object) -> dict[str, object]:
    return options


def test_parameters_have_the_types_of_cvat_cli() -> None:
    words = ["-p", "a=int:3", "-p", "b=float:0.5", "-p", "c=str:x=y:z", "-p", "d=bool:Yes"]
    options = show.main([*words, "--parameter", "e=bool:0"], standalone_mode=False)
    assert options["parameters"] == {"a": 3, "b": 0.5, "c": "x=y:z", "d": True, "e": False}


def test_labels_are_names_or_a_source() -> None:
    assert [label["name"] for label in labels_of_option("cat, St. Bernard")] == [
        "cat",
        "St. Bernard",
    ]
    assert len(labels_of_option("voc-20")) == 20
    with pytest.raises(NotFoundError, match=r"called labels\.txt"):
        labels_of_option("labels.txt")
    with pytest.raises(UsageError, match='"cat" twice'):
        labels_of_option("cat,dog,cat")


@pytest.mark.parametrize("text", ["a", "a=3", "a=int:x", "=int:3", "a=bool:maybe", "a=list:x"])
def test_a_malformed_parameter_is_an_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not NAME=TYPE:VALUE"):
        show.main(["-p", text], standalone_mode=False)
