"""Typed metadata: what datasets, stores and bundles say about themselves."""
