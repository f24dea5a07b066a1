"""NATS Streaming (STAN): channels, their subscriptions and clients, over core NATS and the common log."""
