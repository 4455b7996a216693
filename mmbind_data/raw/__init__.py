"""Raw files as they are distributed: listings, zip archives, tables, arrays, images."""
