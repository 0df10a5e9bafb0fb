"""A worker process: the handler and what connects it to the processor."""
