"""Pre-training: methods, one loop, checkpoints, hardware, the run folder."""
