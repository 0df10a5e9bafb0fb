"""The function as a torchserve handler; torchserve parses the JSON itself."""

import calling


class Bench:
    def initialize(self, _context):
        calling.prepare()

    def handle(self, batch, _context):
        return [calling.call(event_body(request)) for request in batch]


def event_body(request):
    """Return the body for the handler: of an instance of V1, of a file or of JSON."""
    if "image" in request:
        return {"image": request["image"]["b64"]}
    body = request.get("body") or request.get("data")
    return {"image": bytes(body)} if isinstance(body, bytearray) else body
