"""Protocols of compared methods, their jobs, results and statistics."""
