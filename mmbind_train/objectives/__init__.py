"""Losses as pure functions, and the modules that compute them on batches."""
