"""What clients are told when the store could not keep something."""

from __future__ import annotations

from streamd.api.errors import INSUFFICIENT_RESOURCES, NOT_AVAILABLE, STORAGE_EXCEEDED, ApiError
from streamd.errors import LeadershipLost, StoreError, StoreFull


def storage_error(error: StoreError) -> ApiError:
    """A full disk is 10047, a leader that changed meanwhile 10008 (try again), anything else 10023."""
    if isinstance(error, LeadershipLost):
        told = NOT_AVAILABLE()
        return ApiError(told.code, told.err_code, f"{told.description}: {error}")
    return STORAGE_EXCEEDED() if isinstance(error, StoreFull) else INSUFFICIENT_RESOURCES()
