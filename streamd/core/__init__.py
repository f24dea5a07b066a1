"""Core NATS: listeners, connections, flow control, the service bus. Everything without storage.

Place in the walk: socket → connection → engine; batches go up through the bus, acks and deliveries come down through it.
"""
