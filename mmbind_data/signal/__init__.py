"""Arrays of samples: resampling, windows, normalisation, derived signals, point clouds."""
