"""Convert raw data to a store, resumable and in parallel."""
