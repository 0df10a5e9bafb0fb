"""The function as a torchserve handler; torchserve parses the JSON itself."""

import calling


class Bench:
    def initialize(self, _context):
        calling.prepare()

    def handle(self, batch, _context):
        return [calling.call(request.get("body") or request.get("data")) for request in batch]
