"""A streaming persistence server: core NATS, JetStream and (later) NATS Streaming on one LMDB log."""

__version__ = "0.1.0"
