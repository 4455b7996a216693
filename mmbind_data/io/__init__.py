"""Files and folders: locations on disk and in buckets, atomic writing, digests, archives."""
