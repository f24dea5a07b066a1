"""Configuration: the NATS grammar, read into frozen models. Not here: anything that runs."""
