"""What a function asks of GPUs, and what it should know of their memory."""

from __future__ import annotations

from fnbuild.spec.quantities import quantity
from fnbuild.spec.subject import Subject
from fnbuild.spec.types import Function

RESOURCE = "nvidia.com/gpu"


def gpus(function: Function) -> int:
    """How many GPUs the function asks for; 0 too when the limit cannot be read."""
    try:
        return max(0, int(quantity(function.spec.resources.limits.get(RESOURCE, "0"))))
    except ValueError:
        return 0


def workers(subject: Subject) -> None:
    """On a GPU, several workers are several models: right for small ones, else out of memory."""
    found = subject.function.http_trigger()
    number = gpus(subject.function)
    if found is None or not number:
        return
    name, trigger = found
    if trigger.num_workers <= number:
        return
    path = ("spec", "triggers", name)
    written = subject.written.spec.triggers.get(name)
    key = "numWorkers" if written is None or written.num_workers else "maxWorkers"
    on = "one GPU" if number == 1 else f"{number} GPUs"
    message = (
        f"{trigger.num_workers} workers share {on}, and each holds its own copy of the model in"
        f" GPU memory: {trigger.num_workers} times what one takes"
    )
    least = "1 worker is" if number == 1 else f"{number} workers are"
    hint = f"{least} the usual choice; keep more only when all copies fit"
    subject.warning("gpu-workers", message, (*path, key), hint)
