"""A bounded cache of values that were derived from short texts."""

from typing import Dict, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

# Entries of one cache, and the longest text that is cached.
_MAX_ENTRIES = 512
_MAX_TEXT_LENGTH = 1024


def cache_value(cache: Dict[Key, Value], key: Key, value: Value, length: int) -> Value:
    """Cache the value unless its text has more than the usual length; return the value."""
    if length <= _MAX_TEXT_LENGTH:
        if len(cache) >= _MAX_ENTRIES:
            # Cheaper than an LRU order; entries in use return at once.
            cache.clear()
        cache[key] = value
    return value
