"""Typed metadata of datasets, stores and bundles."""
