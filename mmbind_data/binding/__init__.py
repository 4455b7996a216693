"""Bind stores: pair samples by what they share and write the bound store."""
