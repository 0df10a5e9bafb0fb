"""What was worked out from a short text, to be found again when the same text comes."""

from typing import Dict, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

# How many texts of which length one memory keeps.
_MAX_ENTRIES = 512
_MAX_TEXT_LENGTH = 1024


def cache_value(memory: Dict[Key, Value], key: Key, value: Value, length: int) -> Value:
    """Keep the value for a text of this length, unless it is longer than texts ordinarily are."""
    if length <= _MAX_TEXT_LENGTH:
        if len(memory) >= _MAX_ENTRIES:
            # Cheaper than keeping an order; what is in use comes back at once.
            memory.clear()
        memory[key] = value
    return value
