"""Fine-tune and evaluate a run without leaks."""
