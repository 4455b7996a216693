"""The Zarr layout on disk: read, write, cut, check and compare stores."""
