"""Deterministic rules of streams and consumers: time is an argument, nothing here does I/O."""
