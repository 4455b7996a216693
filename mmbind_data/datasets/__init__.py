"""One reader module and one descriptor of the same stem for each known dataset."""
