"""The torch modules of the workloads; imported by the process that builds them only."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

TOKEN_WIDTH, HEADS, LAYERS = 256, 4, 4
"""Chosen so that one row takes some 5 ms on one core."""


class Echo(nn.Module):
    """The first column, as it is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, 32] → [rows, 1]."""
        return x[:, :1]


class Layer(nn.Module):
    """One pre-norm encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = HEADS  # TorchScript sees attributes, not globals
        self.before = nn.LayerNorm(TOKEN_WIDTH)
        self.qkv = nn.Linear(TOKEN_WIDTH, 3 * TOKEN_WIDTH)
        self.out = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)
        self.between = nn.LayerNorm(TOKEN_WIDTH)
        self.up = nn.Linear(TOKEN_WIDTH, 4 * TOKEN_WIDTH)
        self.down = nn.Linear(4 * TOKEN_WIDTH, TOKEN_WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, tokens, width] → the same."""
        rows, tokens, width = x.shape
        joined = self.qkv(self.before(x)).view(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = joined.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        result: torch.Tensor = x + self.down(functional.gelu(self.up(self.between(x))))
        return result


class Encoder(nn.Module):
    """Each of a row's numbers is a token of its own, as in the FT-Transformer for tables."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(features, TOKEN_WIDTH) * 0.1)
        self.shift = nn.Parameter(torch.randn(features, TOKEN_WIDTH) * 0.1)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = nn.Linear(TOKEN_WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, features] → [rows, 1]."""
        tokens = x.unsqueeze(-1) * self.scale + self.shift
        for layer in self.layers:
            tokens = layer(tokens)
        result: torch.Tensor = self.head(tokens.mean(dim=1))
        return result
