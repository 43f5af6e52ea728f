"""The 3D U-Net of Cicek et al., MICCAI 2016 (arXiv:1606.06650), with a free first width and one output channel.

    1 -> w -> 2w ------------------------------------------ (4w + 2w) -> 2w -> 2w -> 1 logit
              | pool                                          ^ up
              2w -> 4w ------------------------ (8w + 4w) -> 4w -> 4w
                    | pool                        ^ up
                    4w -> 8w --- (16w + 8w) -> 8w -> 8w
                          | pool   ^ up
                          8w -> 16w

Channels double *before* each pooling, so no bottleneck throws away what was just made. Padding 1 keeps the shape,
where the paper crops. w = 32 is the paper's 19.07 M parameters; w = 8 has 1.19 M and runs at a sixteenth of the cost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Share of node voxels in a training patch, about: the last bias starts there, so that the first hundred steps are not
# spent on learning that nearly everything is background.
FOREGROUND = 0.01


class ConvBnRelu(nn.Module):
    """Convolution 3x3x3, batch normalization, ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv: nn.Module = nn.Conv3d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.norm(self.conv(x)))
        return out


class UNet(nn.Module):
    """Maps ``(n, 1, z, y, x)`` to logits of that shape; z, y and x are multiples of 8.

    Args:
        width: channels of the first convolution.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        w = width
        self.width = width
        self.down = nn.ModuleList(
            _pair(a, b, 2 * b) for a, b in ((1, w), (2 * w, 2 * w), (4 * w, 4 * w), (8 * w, 8 * w))
        )
        self.lift = nn.ModuleList(nn.ConvTranspose3d(k * w, k * w, 2, stride=2) for k in (16, 8, 4))
        self.up = nn.ModuleList(_pair(3 * k * w, k * w, k * w) for k in (8, 4, 2))
        self.head = nn.Conv3d(2 * w, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.constant_(self.head.bias, float(torch.logit(torch.tensor(FOREGROUND))))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level:
                x = nn.functional.max_pool3d(x, 2)
            x = block(x)
            skips.append(x)
        skips.pop()
        for lift, block in zip(self.lift, self.up, strict=True):
            x = block(torch.cat((skips.pop(), lift(x)), dim=1))
        logits: Tensor = self.head(x)
        return logits

    def decoder_modules(self, levels: int) -> list[nn.Module]:
        """Return the finest levels of the decoder and what follows them.

        Args:
            levels: 0, the head alone, to 3, the whole decoder.
        """
        first = len(self.up) - levels
        return [*self.lift[first:], *self.up[first:], self.head]


def _pair(channels_in: int, channels_middle: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(ConvBnRelu(channels_in, channels_middle), ConvBnRelu(channels_middle, channels_out))
