"""The JetStream API on the wire: one model per message, one row per error, one row per subject.

The walk of a request: `subjects.find` names its row, `Endpoint.read` makes the request model, a handler in
`streamd.streams` makes the answer model, `encode` (or `failure` for an ApiError) makes the bytes.
"""
