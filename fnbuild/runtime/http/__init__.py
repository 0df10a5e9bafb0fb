"""HTTP/1.1 for the processor: a strict parser, an asyncio server and a small blocking client."""
