"""Training on stores and evaluation that cannot leak. Importing this package imports no torch."""
