"""What a simulation ends with when a promise is broken."""

from streamd.errors import StreamdError


class Violation(StreamdError):
    """Something that must always hold did not; the text says what, where and when."""
