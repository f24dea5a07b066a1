"""Replicated groups."""
