"""Pairing that an oracle of two lines can repeat: standardised samples, cosine, one partner."""

from __future__ import annotations

from mmbind_data.binding.options import BindOptions
from mmbind_data.matching.rule import MatchRule

PLAIN = BindOptions(rerank="none", rule=MatchRule(), weight_rule="minmax_mean1")
