"""The processor: takes requests, hands them to workers, and keeps the workers alive."""
