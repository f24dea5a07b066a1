"""NATS Streaming (STAN) on the same log."""
