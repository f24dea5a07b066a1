"""The services that join state and store: publish, consume, and the JetStream API.

Place in the walk: a tap's batch → admission (state) → commit (store) → ack (engine); then consumers read the log and the
engine frames what they deliver.
"""
