"""The states of a connection."""

READ = "read"  # between requests, or one is arriving
BUSY = "busy"  # the application has a request
STREAM = "stream"  # the answer has begun and its body is being produced
FLUSH = "flush"  # the answer waits for a slow reader
LINGER = "linger"  # no more requests are answered; further input is discarded
CLOSED = "closed"
