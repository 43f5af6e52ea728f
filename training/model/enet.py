"""ENet (Paszke et al. 2016, arXiv:1606.02147) in three dimensions: the network that the paper's outlook names.

    image (n, 1, z, y, x)
      initial / (1,2,2)        w   (z,   y/2, x/2)   convolution beside the pooled image
      down / (1,2,2)          4w   (z,   y/4, x/4)   4 bottlenecks
      down / (2,2,2)          8w   (z/2, y/8, x/8)   2 x 8 that see ever more of the plane
      up x (2,2,2)            4w   (z,   y/4, x/4)   2 bottlenecks
      up x (1,2,2)             w   (z,   y/2, x/2)   1 bottleneck
      transposed convolution   1   (z,   y,   x)     logits

A bottleneck adds what it computes at a quarter of the channels to what it was given. At w = 16 it has 0.71 M parameters
and costs 20 GMAC for 32 x 256 x 256. It is here to be compared with; no preset uses it.

Where the third axis leaves a choice: slices are thick, so only one pooling halves them, and dilation and asymmetric
convolutions (5 x 1 and 1 x 5) stay in the plane. Upward, transposed convolutions take the place of max unpooling, whose
indices ONNX cannot carry from one level to another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lnfast.window import Zyx
from training.model.edgenet import FIRST_LOGIT, ConvNorm

FINE: Zyx = (1, 2, 2)
HALF: Zyx = (2, 2, 2)
DROPOUT_FIRST, DROPOUT = 0.01, 0.1  # of whole channels


class EmptyChannels(nn.Module):
    """Append channels of zeros."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, (0, 0, 0, 0, 0, 0, 0, self.count))


class Bottleneck(nn.Module):
    """Project to a quarter of the channels, convolve, expand, drop, and add to the input.

    Args:
        channels_in, channels_out: equal unless it goes down or up.
        dropout: share of the channels that is dropped while training.
        dilation: in the plane.
        asymmetric: 5 x 1 and 1 x 5 in the plane instead of 3 x 3 x 3.
        down: stride of a bottleneck that goes down; the input is pooled, and padded with empty channels.
        up: factor of one that goes up.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        dropout: float,
        *,
        dilation: int = 1,
        asymmetric: bool = False,
        down: Zyx | None = None,
        up: Zyx | None = None,
    ) -> None:
        super().__init__()
        inner = max(1, (channels_in if up else channels_out) // 4)
        self.project = nn.Sequential(ConvNorm(channels_in, inner, down or (1, 1, 1), down or (1, 1, 1)), nn.PReLU())
        if up is not None:
            self.middle: nn.Module = nn.Sequential(nn.ConvTranspose3d(inner, inner, up, up), nn.PReLU())
        elif asymmetric:
            self.middle = nn.Sequential(
                nn.Conv3d(inner, inner, (1, 5, 1), padding=(0, 2, 0), bias=False),
                ConvNorm(inner, inner, (1, 1, 5)),
                nn.PReLU(),
            )
        else:
            self.middle = nn.Sequential(ConvNorm(inner, inner, (3, 3, 3), dilation=(1, dilation, dilation)), nn.PReLU())
        self.expand = ConvNorm(inner, channels_out, (1, 1, 1))
        self.dropout = nn.Dropout3d(dropout)
        self.beside: nn.Module = nn.Identity()
        if down is not None:
            self.beside = nn.Sequential(nn.MaxPool3d(down), EmptyChannels(channels_out - channels_in))
        elif up is not None:
            self.beside = nn.ConvTranspose3d(channels_in, channels_out, up, up)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        changed = self.dropout(self.expand(self.middle(self.project(x))))
        out: Tensor = self.activation(self.beside(x) + changed)
        return out


class ENet(nn.Module):
    """Maps ``(n, 1, z, y, x)`` to logits of that shape; y and x are multiples of 8, z of 2.

    Args:
        width: channels of the finest level.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.width = width
        self.initial = ConvNorm(1, w - 1, (3, 3, 3), FINE)
        self.pool = nn.MaxPool3d(FINE)
        self.encoder = nn.Sequential(
            Bottleneck(w, 4 * w, DROPOUT_FIRST, down=FINE),
            *(Bottleneck(4 * w, 4 * w, DROPOUT_FIRST) for _ in range(4)),
            Bottleneck(4 * w, 8 * w, DROPOUT, down=HALF),
            *(bottleneck for _ in range(2) for bottleneck in _context(8 * w)),
        )
        self.decoder = nn.ModuleList(
            (
                nn.Sequential(
                    Bottleneck(8 * w, 4 * w, DROPOUT, up=HALF),
                    *(Bottleneck(4 * w, 4 * w, DROPOUT) for _ in range(2)),
                ),
                nn.Sequential(Bottleneck(4 * w, w, DROPOUT, up=FINE), Bottleneck(w, w, DROPOUT)),
            )
        )
        self.head = nn.ConvTranspose3d(w, 1, FINE, FINE)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose3d):  # kernel and stride are equal
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
                nn.init.constant_(module.get_parameter("bias"), 0.0)
        nn.init.constant_(self.head.get_parameter("bias"), FIRST_LOGIT)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(torch.cat((self.initial(image), self.pool(image)), dim=1))
        x = self.encoder(x)
        for blocks in self.decoder:
            x = blocks(x)
        logits: Tensor = self.head(x)
        return logits

    def decoder_modules(self, levels: int) -> list[nn.Module]:
        """Return the finest levels of the decoder and what follows them.

        Args:
            levels: 0, the head alone, to 2, the whole decoder; 3 is the same.
        """
        return [*self.decoder[max(0, len(self.decoder) - levels) :], self.head]


def _context(channels: int) -> list[Bottleneck]:
    """Return the eight bottlenecks that see ever more of the plane."""
    return [
        Bottleneck(channels, channels, DROPOUT, dilation=dilation, asymmetric=asymmetric)
        for dilation, asymmetric in (
            (1, False),
            (2, False),
            (1, True),
            (4, False),
            (1, False),
            (8, False),
            (1, True),
            (16, False),
        )
    ]
