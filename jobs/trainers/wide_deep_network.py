"""Wide & Deep (Cheng et al., 2016) for rows of eight categories and five numbers.

Wide: one weight for every category and for every pair of categories in a few crossed columns, summed. Deep: an
embedding for every category beside the numbers, into a small perceptron. What a caller would otherwise have to know is
inside: offsets, crosses, logarithms, standardisation. An index outside its column's vocabulary counts as 0, "unknown",
so that no engine reads beyond a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

EMBEDDING = 8
HIDDEN = (128, 64)
# Columns of adult.CATEGORICAL.
CROSSES = ((1, 3), (3, 4), (2, 3), (0, 3), (4, 6), (1, 4))
LOGARITHMIC = (0.0, 0.0, 1.0, 1.0, 0.0)


class WideDeep(nn.Module):  # type: ignore[misc]
    """`forward` gives logits [rows]; `sizes` are the vocabularies' sizes, mean and deviation those of the numbers."""

    def __init__(self, sizes: Sequence[int], mean: Tensor, deviation: Tensor, dropout: float = 0.2) -> None:
        super().__init__()
        offsets = torch.tensor([0, *torch.tensor(sizes[:-1]).cumsum(0).tolist()])
        cross_sizes = [sizes[a] * sizes[b] for a, b in CROSSES]
        cross_offsets = torch.tensor([0, *torch.tensor(cross_sizes[:-1]).cumsum(0).tolist()])
        self.register_buffer("sizes", torch.tensor(sizes))
        self.register_buffer("offsets", offsets)
        self.register_buffer("cross_offsets", cross_offsets + sum(sizes))
        self.register_buffer("cross_left", torch.tensor([a for a, _ in CROSSES]))
        self.register_buffer("cross_right", torch.tensor([b for _, b in CROSSES]))
        self.register_buffer("cross_factor", torch.tensor([sizes[b] for _, b in CROSSES]))
        self.register_buffer("logarithmic", torch.tensor(LOGARITHMIC))
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.wide = nn.Embedding(sum(sizes) + sum(cross_sizes), 1)
        self.wide_numbers = nn.Linear(len(mean), 1)
        self.embedding = nn.Embedding(sum(sizes), EMBEDDING)
        layers: list[nn.Module] = []
        width = EMBEDDING * len(sizes) + len(mean)
        for hidden in HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.deep = nn.Sequential(*layers, nn.Linear(width, 1))
        nn.init.zeros_(self.wide.weight)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def numbers(self, continuous: Tensor) -> Tensor:
        """Returns the raw numbers standardised, those with long tails after log(1 + x)."""
        squeezed = torch.where(self.logarithmic > 0, torch.log1p(continuous.clamp(min=0)), continuous)
        return (squeezed - self.mean) / self.deviation

    def forward(self, categorical: Tensor, continuous: Tensor) -> Tensor:
        known = torch.where((categorical >= 0) & (categorical < self.sizes), categorical, torch.zeros_like(categorical))
        rows = known + self.offsets
        left, right = known.index_select(1, self.cross_left), known.index_select(1, self.cross_right)
        crosses = left * self.cross_factor + right + self.cross_offsets
        numbers = self.numbers(continuous)
        wide = self.wide(torch.cat([rows, crosses], 1)).sum(1) + self.wide_numbers(numbers)
        deep = self.deep(torch.cat([self.embedding(rows).flatten(1), numbers], 1))
        return (wide + deep).squeeze(1)


class Probability(nn.Module):  # type: ignore[misc]
    """What is served: the probability [rows, 1]."""

    def __init__(self, network: WideDeep) -> None:
        super().__init__()
        self.network = network

    def forward(self, categorical: Tensor, continuous: Tensor) -> Tensor:
        return torch.sigmoid(self.network(categorical, continuous)).unsqueeze(1)
