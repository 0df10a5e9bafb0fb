"""Methods that an exported class must define."""

import pytest

from fnbuild import vision


def defines(base, *methods):
    return type("Cats", (base,), {name: lambda self, *arguments: [] for name in methods})


@pytest.mark.parametrize(
    ("base", "methods", "needed"),
    [
        (vision.Detector, (), "predict or predict_batch"),
        (vision.Classifier, (), "predict or predict_batch"),
        (vision.Interactor, ("embed",), "predict"),
        (vision.Tracker, ("start",), "follow"),
        (vision.ReId, (), "embed or match"),
        (vision.Function, ("read",), "answer or answer_all"),
    ],
)
def test_a_class_without_a_needed_method_is_refused_at_its_export(base, methods, needed):
    with pytest.raises(TypeError, match=f"^Cats needs a method {needed}$"):
        vision.export(defines(base, *methods))
    for name in needed.split(" or "):
        vision.export(defines(base, *methods, name))
