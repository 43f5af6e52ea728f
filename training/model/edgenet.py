"""The network of preset `edge`: a U-Net whose finest level lies at half the plane, at a sixth of the old one's cost.

    image (n, 1, z, y, x)
      fold 1x2x2 / (1,2,2)    w   (z,   y/2,  x/2)   1 block of 1x3x3 ------ concatenate -> 1 block -> 4 logits, unfold
      down 3x3x3 / (1,2,2)   2w   (z,   y/4,  x/4)   1 block of 3x3x3 ------ concatenate -> 1 block -> coarse logits
      down 3x3x3 / (2,2,2)   4w   (z/2, y/8,  x/8)   2 blocks -------------- concatenate -> 1 block
      down 3x3x3 / (2,2,2)   8w   (z/4, y/16, x/16)  2 blocks

At w = 16 it has 3.07 M parameters and costs 44.4 GMAC for 32 x 256 x 256. What a CPU dislikes is left out: additions do
not fuse in INT8, depthwise convolutions do not compile in it, and 3x3x3 at full resolution costs 20 ms each. A pixel of
the finest level answers for 2 x 2 of the image, with a logit for each of the four.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

BLOCKS = (1, 1, 2, 2)
STRIDES = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
# Old statistics weigh 0.98: a batch is of a few crops only.
MOMENTUM = 0.02
# Nodes are 0.05 % of the voxels. Starting there saves the first hundred steps.
FIRST_LOGIT = -6.0


class SlowNorm(nn.BatchNorm3d):
    """Batch normalization whose statistics are the mean of the first batches, and from then on move by `MOMENTUM`.

    Moved by as little from the start they would hold half of where they began after 30 batches, and a quarter after 70.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.momentum = max(MOMENTUM, 1 / (int(self.num_batches_tracked or 0) + 1))
        return super().forward(x)


class ConvNorm(nn.Module):
    """Convolution and batch normalization, which `training.model.networks.fuse` folds into one."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        dilation: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        z, y, x = (step * (size - 1) // 2 for step, size in zip(dilation, kernel, strict=True))
        self.conv: nn.Module = nn.Conv3d(channels_in, channels_out, kernel, stride, (z, y, x), dilation, bias=False)
        self.norm: nn.Module = SlowNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out


class Block(nn.Module):
    """Two convolutions, each normalized and rectified."""

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = ConvNorm(channels_in, channels_out, kernel)
        self.second = ConvNorm(channels_out, channels_out, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))))


class Unfold(nn.Module):
    """``(n, 4, z, y, x)`` to ``(n, 1, z, 2y, 2x)``: channel 2a + b goes to row a and column b of each 2 x 2.

    Slices take the place of the batch. Of one study no reshape is left then that would have a shape in the graph, and
    the runtime can give the same graph to a window of the grid.
    """

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            return pixel_shuffle(x.squeeze(0).transpose(0, 1), 2).transpose(0, 1).unsqueeze(0)
        slices = pixel_shuffle(x.transpose(1, 2).flatten(0, 1), 2)
        unfolded: Tensor = slices.unflatten(0, (len(x), -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return unfolded


class EdgeNet(nn.Module):
    """Maps ``(n, 1, z, y, x)`` to logits of that shape; y and x are multiples of 16, z of 4.

    While training it gives a second volume of logits, ``(n, 1, z, y/4, x/4)``, for a loss in the middle of the decoder.

    Args:
        width: channels of the finest level.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        widths = [width << level for level in range(len(BLOCKS))]
        kernels = [(1, 3, 3) if level == 0 else (3, 3, 3) for level in range(len(BLOCKS))]
        self.stem = nn.Sequential(ConvNorm(1, width, (1, 2, 2), (1, 2, 2)), nn.ReLU())
        self.encoder = nn.ModuleList(
            nn.Sequential(*(Block(channels, channels, kernel) for _ in range(blocks)))
            for channels, kernel, blocks in zip(widths, kernels, BLOCKS, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(ConvNorm(fine, coarse, (3, 3, 3), stride), nn.ReLU())
            for fine, coarse, stride in zip(widths[:-1], widths[1:], STRIDES, strict=True)
        )
        upward = range(len(STRIDES) - 1, -1, -1)
        self.lift = nn.ModuleList(
            nn.ConvTranspose3d(widths[level + 1], widths[level], STRIDES[level], STRIDES[level]) for level in upward
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(Block(2 * widths[level], widths[level], kernels[level])) for level in upward
        )
        self.head = nn.Sequential(nn.Conv3d(width, 4, 1), Unfold())
        self.coarse = nn.Conv3d(2 * width, 1, 1)
        self._initialise()

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        skips: list[Tensor] = []
        x = self.stem(image)
        for level, blocks in enumerate(self.encoder):
            x = blocks(self.down[level - 1](x) if level else x)
            skips.append(x)
        skips.pop()
        middle = x
        for lift, blocks in zip(self.lift, self.decoder, strict=True):
            middle = x
            x = blocks(torch.cat((skips.pop(), lift(x)), dim=1))
        logits: Tensor = self.head(x)
        return (logits, self.coarse(middle)) if self.training else logits

    def decoder_modules(self, levels: int) -> list[nn.Module]:
        """Return the finest levels of the decoder and what follows them.

        Args:
            levels: 0, the head alone, to 3, the whole decoder.
        """
        first = len(self.decoder) - levels
        # The coarse logits are those of the level before the finest.
        coarse = [self.coarse] if levels > 1 else []
        return [*self.lift[first:], *self.decoder[first:], self.head, *coarse]

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, ConvNorm):
                nn.init.kaiming_normal_(module.conv.get_parameter("weight"), nonlinearity="relu")
        for lift in self.lift:  # kernel and stride are equal: one voxel comes in for each that goes out
            assert isinstance(lift, nn.ConvTranspose3d) and lift.bias is not None
            nn.init.normal_(lift.weight, std=lift.in_channels**-0.5)
            nn.init.zeros_(lift.bias)
        for last in (self.head[0], self.coarse):
            nn.init.constant_(last.get_parameter("bias"), FIRST_LOGIT)
