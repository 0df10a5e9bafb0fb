"""The package `ts` for archives whose environment lacks torchserve."""

from typing import Dict

from ..provided_modules import provide_modules

# The modules of `ts` by the module here that has their names, and those of the modules below them.
_MODULES = {
    "handler_api": (
        "ts", "ts.version", "ts.utils", "ts.utils.util", "ts.handler_utils",
        "ts.handler_utils.utils", "ts.handler_utils.timer", "ts.protocol",
        "ts.protocol.otf_message_handler",
    ),
    "context": ("ts.context",),
    "metrics": (
        "ts.metrics", "ts.metrics.dimension", "ts.metrics.metric", "ts.metrics.metric_type_enum",
        "ts.metrics.metrics_store",
    ),
    "base_handler": ("ts.torch_handler", "ts.torch_handler.base_handler"),
    "vision_handlers": (
        "ts.torch_handler.image_classifier", "ts.torch_handler.image_segmenter",
        "ts.torch_handler.object_detector", "ts.torch_handler.vision_handler",
    ),
    "request_envelopes": (
        "ts.torch_handler.request_envelope", "ts.torch_handler.request_envelope.base",
        "ts.torch_handler.request_envelope.body", "ts.torch_handler.request_envelope.json",
        "ts.torch_handler.request_envelope.kserve", "ts.torch_handler.request_envelope.kservev2",
    ),
}  # fmt: skip


def provided_names() -> Dict[str, str]:
    """Return the modules here that have the names of `ts`, by the names of its modules."""
    place = __name__.rpartition(".")[0]
    return {name: "%s.%s" % (place, module) for module, names in _MODULES.items() for name in names}


def provide_packages() -> None:
    """Make the package importable in this process."""
    provide_modules(provided_names(), "torchserve")
