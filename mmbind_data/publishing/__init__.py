"""Publish bundles within their sources' licences, verify and hydrate them."""
