"""One module for each command of mmbind."""
