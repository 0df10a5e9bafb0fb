"""HTTP/1.1 for the processor: a strict parser, a server and a small blocking client."""
