"""HTTP for people and probes: what the server is, how it does, whether it is well."""
