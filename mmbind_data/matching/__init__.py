"""Find the most similar samples: metrics, nearest neighbours, CSLS, time warping."""
