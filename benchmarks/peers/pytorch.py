"""The baseline: FCN-32s, FCN-16s and FCN-8s in plain PyTorch, as a sequence of `nn.Conv2d`.

The straightforward implementation, as in the widely used pytorch-fcn: fc6 as a 7x7 convolution,
transposed convolutions with dense kernels, and the crop offsets of the Caffe release.
"""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.weights import SKIPS, WIDTHS

# Crop offsets of the skips, then of the logits, with and without padding of the image.
OFFSETS = {
    ("FCN32s", "paper"): (19,),
    ("FCN16s", "paper"): (5, 27),
    ("FCN8s", "paper"): (5, 9, 31),
    ("FCN32s", "same"): (16,),
    ("FCN16s", "same"): (-1, 8),
    ("FCN8s", "same"): (-1, -1, 4),
}


class PeerFCN(nn.Module):
    """Takes (batch, 3, height, width), BGR minus the mean; returns logits of that size.

    Args:
        variant: "FCN32s", "FCN16s" or "FCN8s".
        num_classes: Number of classes.
        padding: "paper" for 100 pixels around the image, "same" for 3 around fc6.
    """

    def __init__(self, variant: str, num_classes: int, padding: str):
        super().__init__()
        self.skips = SKIPS[variant]
        self.offsets = OFFSETS[variant, padding]
        channels = 3
        for block, widths in enumerate(WIDTHS, start=1):
            for number, width in enumerate(widths, start=1):
                first = padding == "paper" and (block, number) == (1, 1)
                layer = nn.Conv2d(channels, width, 3, padding=100 if first else 1)
                self.add_module(f"block{block}_conv{number}", layer)
                channels = width
        self.fc6 = nn.Conv2d(512, 4096, 7, padding=0 if padding == "paper" else 3)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.score_fr = nn.Conv2d(4096, num_classes, 1)
        stride, name = 32, "upscore2" if self.skips else "upscore"
        for skip in self.skips:
            setattr(
                self, f"score_{skip}", nn.Conv2d(512 if skip == "pool4" else 256, num_classes, 1)
            )
            setattr(self, name, nn.ConvTranspose2d(num_classes, num_classes, 4, 2, bias=False))
            stride, name = stride // 2, f"upscore_{skip}"
        self.last = "upscore" if stride == 32 else f"upscore{stride}"
        layer = nn.ConvTranspose2d(num_classes, num_classes, 2 * stride, stride, bias=False)
        setattr(self, self.last, layer)

    def forward(self, image):
        x, pools = image, {}
        for block, widths in enumerate(WIDTHS, start=1):
            for number in range(1, len(widths) + 1):
                x = functional.relu(getattr(self, f"block{block}_conv{number}")(x), inplace=True)
            x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
            pools[f"pool{block}"] = x
        x = functional.dropout(functional.relu(self.fc6(x), inplace=True), 0.5, self.training)
        x = functional.dropout(functional.relu(self.fc7(x), inplace=True), 0.5, self.training)
        x = self.score_fr(x)
        name = "upscore2"
        for skip, offset in zip(self.skips, self.offsets, strict=False):
            x = getattr(self, name)(x)
            score = getattr(self, f"score_{skip}")(pools[skip])
            if offset >= 0:
                score = score[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
            else:
                x = x[:, :, -offset : -offset + score.shape[2], -offset : -offset + score.shape[3]]
            x = x + score
            name = f"upscore_{skip}"
        x, offset = getattr(self, self.last)(x), self.offsets[-1]
        return x[
            :, :, offset : offset + image.shape[2], offset : offset + image.shape[3]
        ].contiguous()

    @torch.no_grad()
    def take(self, arrays):
        """Sets every parameter from a Keras model's arrays, `{"fc6/kernel": array, ...}`."""
        for name, parameter in self.named_parameters():
            layer, kind = name.rsplit(".", 1)
            array = torch.from_numpy(arrays[f"{layer}/{'kernel' if kind == 'weight' else 'bias'}"])
            parameter.copy_(array.permute(3, 2, 0, 1) if kind == "weight" else array)
