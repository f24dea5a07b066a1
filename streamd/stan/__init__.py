"""NATS Streaming: clients, channels and subscriptions, as a second face of streams."""
