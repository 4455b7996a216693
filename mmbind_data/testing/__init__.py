"""Test kit for readers, generated raw data, and scaffolds for new datasets."""
