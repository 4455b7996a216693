"""Transformer layers of the published MM-Fi networks, with a mask for absent points.

Letters: n rows, t tokens, d values per token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention without bias; one head of full width has no output layer.

    The product of ``n_heads`` and ``head_dim`` may differ from ``dim``, the values per token.
    """

    def __init__(self, dim: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        inner = n_heads * head_dim
        self.query = nn.Linear(dim, inner, bias=False)
        self.key_value = nn.Linear(dim, 2 * inner, bias=False)
        plain = n_heads == 1 and head_dim == dim
        self.out: nn.Module = nn.Identity() if plain else nn.Linear(inner, dim)

    def forward(self, tokens: Tensor, memory: Tensor, real: Tensor | None = None) -> Tensor:
        """Let (n, t, d) tokens attend to a (n, m, d) memory where ``real``, (n, m) bool, is True.

        The result is zero for a row whose memory is nowhere real.
        """
        query = self._heads(self.query(tokens))
        key, value = (self._heads(half) for half in self.key_value(memory).chunk(2, dim=-1))
        mask = None if real is None else real[:, None, None, :]
        if mask is not None:
            # where nothing is real all is attended to, and set to zero afterwards
            mask = mask | ~mask.any(dim=-1, keepdim=True)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        if real is not None:
            seen = seen * real.any(dim=1)[:, None, None, None]
        result: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return result

    def _heads(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.n_heads, -1).transpose(1, 2)


class Perceptron(nn.Sequential):
    """Layer normalisation, then two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )


class EncoderLayer(nn.Module):
    """Self-attention and a perceptron, each after a normalisation and added to its input."""

    def __init__(self, dim: int, n_heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, n_heads, head_dim)
        self.perceptron = Perceptron(dim, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Change (n, t, d) tokens."""
        normal = self.norm(tokens)
        tokens = tokens + self.attention(normal, normal)
        changed: Tensor = tokens + self.perceptron(tokens)
        return changed


class TransformerEncoder(nn.Sequential):
    """Layers of self-attention and a last normalisation: (n, t, d) to (n, t, d)."""

    def __init__(
        self, dim: int, *, n_layers: int, n_heads: int, head_dim: int, hidden: int
    ) -> None:
        layers = [EncoderLayer(dim, n_heads, head_dim, hidden) for _ in range(n_layers)]
        super().__init__(*layers, nn.LayerNorm(dim))


class DecoderLayer(nn.Module):
    """Self-attention among queries, attention to a memory, a perceptron."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.own_norm, self.cross_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.own, self.cross = Attention(dim, 1, dim), Attention(dim, 1, dim)
        self.perceptron = Perceptron(dim, hidden)

    def forward(self, queries: Tensor, memory: Tensor, real: Tensor) -> Tensor:
        """Change (n, q, d) queries by (n, m, d) memory where ``real`` (n, m) is True."""
        normal = self.own_norm(queries)
        queries = queries + self.own(normal, normal)
        queries = queries + self.cross(self.cross_norm(queries), memory, real)
        changed: Tensor = queries + self.perceptron(queries)
        return changed


class CrossDecoder(nn.Module):
    """Layers through which queries attend to a set of points, and a last normalisation."""

    def __init__(self, dim: int, *, n_layers: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, hidden) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, memory: Tensor, real: Tensor) -> Tensor:
        """Let (n, q, d) queries attend to a (n, m, d) memory where ``real`` (n, m) is True."""
        for layer in self.layers:
            queries = layer(queries, memory, real)
        normal: Tensor = self.norm(queries)
        return normal


class Places(nn.Module):
    """Adds a fixed code of each token's place."""

    code: Tensor

    def __init__(self, code: Tensor) -> None:
        super().__init__()
        self.register_buffer("code", code, persistent=False)  # follows from the sizes

    def forward(self, tokens: Tensor) -> Tensor:
        """Add the code to (n, t, d) tokens."""
        return tokens + self.code


def sinusoid(n_places: int, dim: int) -> Places:
    """Sines and cosines of the place at falling frequencies.

    Source: Vaswani et al., "Attention is all you need" (NeurIPS 2017), section 3.5.
    """
    place = torch.arange(n_places, dtype=torch.float32).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))
    code = torch.zeros(n_places, dim)
    code[:, 0::2] = torch.sin(place * frequency)
    code[:, 1::2] = torch.cos(place * frequency)
    return Places(code)
