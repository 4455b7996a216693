"""Batches from stores: training sets, windows in memory, augmentation, leak checks."""
