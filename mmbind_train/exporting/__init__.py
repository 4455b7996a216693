"""Export a run as self-contained programs."""
