"""The handler that the archive names."""

from MyHandler import MyHandler

_service = MyHandler()


def handle(data, context):
    if not _service.initialized:
        _service.initialize(context)
    return None if data is None else _service.handle(data, context)
