"""ResNet-50 v1.5 in plain PyTorch, with the names and shapes of torchvision's state dict.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). v1.5 is the usual variant: a bottleneck strides
in its 3x3 convolution, not in the first 1x1. A state dict goes to torchvision's `resnet50` and back unchanged (the
last layer has as many rows as there are classes); `tests/jobs` compares the names with a list made from torchvision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
"""(bottlenecks, width) of the four stages."""
_EXPANSION = 4


class Bottleneck(nn.Module):  # type: ignore[misc]
    """1x1, 3x3, 1x1 convolutions beside a skip connection."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: Any = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Any) -> Any:
        skip = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + skip)


class ResNet50(nn.Module):  # type: ignore[misc]
    """[rows, 3, height, width] to logits [rows, classes]; trained and exported at 224x224, any size works."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, (blocks, width) in enumerate(STAGES):
            made = []
            for block in range(blocks):
                made.append(Bottleneck(channels, width, 2 if block == 0 and stage > 0 else 1))
                channels = width * _EXPANSION
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        self._initialise()

    def _initialise(self) -> None:
        """As the paper's authors do; each bottleneck begins as its skip connection (Goyal et al., 2017, 5.1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))
