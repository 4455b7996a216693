"""Pairing that an oracle of two lines can repeat: standardised samples, cosine, one partner."""

from __future__ import annotations

from mmbind_data.bind_options import BindOptions
from mmbind_data.rule import Rule

PLAIN = BindOptions(rerank="none", rule=Rule())
