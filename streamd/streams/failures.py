"""What clients are told when the store could not keep something."""

from __future__ import annotations

from streamd.api.errors import INSUFFICIENT_RESOURCES, STORAGE_EXCEEDED, ApiError
from streamd.errors import StoreError, StoreFull


def storage_error(error: StoreError) -> ApiError:
    """A full disk is 10047, anything else 10023."""
    return STORAGE_EXCEEDED() if isinstance(error, StoreFull) else INSUFFICIENT_RESOURCES()
