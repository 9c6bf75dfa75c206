"""The networks of the GPU benchmark, written out in PyTorch so that nothing has to be downloaded: seeded weights.

`size` "full" is the published shape; "tiny" has the same structure and is for tests on a CPU. No accuracy is claimed:
speed depends on shapes and data types alone. Imports torch; nothing else here may.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SEED = 20261124
MEANS, DEVIATIONS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's red, green and blue, 0 to 255."""


class Bottleneck(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3 (stride here, as in version 1.5), 1x1, and the way around."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.around: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.around = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, value: Tensor) -> Tensor:
        return torch.relu(self.body(value) + self.around(value))


class ResNet(nn.Module):
    """Input UINT8 [N,H,W,3], normalised here; output [N,1000]; layers (3,4,6,3) are ResNet-50."""

    def __init__(self, layers: tuple[int, ...], width: int) -> None:
        super().__init__()
        parts: list[nn.Module] = [
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        ]  # fmt: skip
        before = width
        for stage, count in enumerate(layers):
            for index in range(count):
                stride = 2 if stage and not index else 1
                parts.append(Bottleneck(before, width << stage, stride))
                before = 4 * (width << stage)
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(before, 1000)
        self.register_buffer("means", torch.tensor(MEANS))
        self.register_buffer("deviations", torch.tensor(DEVIATIONS))

    def forward(self, pictures: Tensor) -> Tensor:
        value = (pictures.to(self.means.dtype) - self.means) / self.deviations
        value = self.body(value.permute(0, 3, 1, 2)).to(self.head.weight.dtype)
        scores: Tensor = self.head(value.mean((2, 3)))
        return scores


class Bert(nn.Module):
    """Input INT64 tokens [N,L], output [N,width]: an encoder and the pooled first token."""

    def __init__(self, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30522, width), nn.Embedding(512, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pool = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        value = self.encoder(self.words(tokens) + self.places(places))
        return torch.tanh(self.pool(value[:, 0].to(self.pool.weight.dtype)))


class WideDeep(nn.Module):
    """Input INT64 categories [N,8] and FP32 numbers [N,5], output [N,1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(1000, 16) for _ in range(8)])
        self.wide = nn.Linear(5, 1)
        self.deep = nn.Sequential(
            nn.Linear(8 * 16 + 5, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 1)
        )

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        embedded = [table(categories[:, index]) for index, table in enumerate(self.tables)]
        return torch.sigmoid(self.wide(numbers) + self.deep(torch.cat([*embedded, numbers], 1)))


def network(name: str, size: str) -> nn.Module:
    """Returns `resnet50`, `bert` or `wide_deep`, "full" or "tiny", ready to infer."""
    torch.manual_seed(SEED)
    full = size == "full"
    made: nn.Module
    if name == "resnet50":
        made = ResNet((3, 4, 6, 3), 64) if full else ResNet((1, 1, 1, 1), 8)
    elif name == "bert":
        made = Bert(12, 768, 12) if full else Bert(1, 32, 2)
    elif name == "wide_deep":
        made = WideDeep(1024 if full else 32)
    else:
        raise ValueError(f"no network {name!r}")
    made = made.eval()
    fold(made)
    return made.to(memory_format=torch.channels_last)


def halve(made: nn.Module) -> nn.Module:
    """Returns the network in FP16, but for its last layer: rounded, answers would differ by that alone."""
    made = made.half()
    for name, child in made.named_children():
        if name in ("head", "pool"):
            child.float()
    return made


def fold(module: nn.Module) -> None:
    """Folds every batch norm into the convolution before it, as an engine for inference does."""
    for child in module.children():
        fold(child)
    if isinstance(module, nn.Sequential):
        for index, (first, second) in enumerate(pairwise(list(module))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[index], module[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


def example(name: str, size: str, rows: int, device: str, half: bool) -> tuple[Any, ...]:
    """Returns seeded inputs of `rows` rows on `device`."""
    generator = torch.Generator().manual_seed(SEED)
    if name == "resnet50":
        side = 224 if size == "full" else 32
        return (torch.randint(0, 256, (rows, side, side, 3), generator=generator, dtype=torch.uint8).to(device),)
    if name == "bert":
        length = 128 if size == "full" else 8
        return (torch.randint(0, 30522, (rows, length), generator=generator).to(device),)
    numbers = torch.randn(rows, 5, generator=generator)
    if half:
        numbers = numbers.half()
    return torch.randint(0, 1000, (rows, 8), generator=generator).to(device), numbers.to(device)
