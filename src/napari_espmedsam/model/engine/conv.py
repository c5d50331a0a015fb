"""The convolutional parts of the trunk: norms folded, channels last, in bands."""

from __future__ import annotations

from torch import Tensor

from napari_espmedsam.model.engine.bands import in_bands, overwrite_in_bands
from napari_espmedsam.model.engine.fold import fold_norm, fold_pointwise
from napari_espmedsam.model.engine.module import InferenceModule, gelu_
from napari_espmedsam.model.layers import ConvNorm, MBConv, PatchEmbed, PatchMerging


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H, W, C), a view."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """(B, H, W, C) as (B, C, H, W), a view."""
    return x.permute(0, 3, 1, 2)


class InferenceConv(InferenceModule):
    """:class:`ConvNorm` on (B, H, W, C)."""

    def __init__(self, pair: ConvNorm) -> None:
        super().__init__()
        self.conv = fold_norm(pair)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, H, W, C)."""
        return channels_last(self.conv(channels_first(x)))


class InferencePatchEmbed(InferenceModule):
    """:class:`PatchEmbed` for inference."""

    def __init__(self, stem: PatchEmbed) -> None:
        super().__init__()
        self.conv1, self.conv2 = InferenceConv(stem.conv1), InferenceConv(stem.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, ceil(H/4), ceil(W/4))."""
        return channels_first(in_bands(self._embed, channels_last(x), stride=4))

    def _embed(self, x: Tensor) -> Tensor:
        return self.conv2(gelu_(self.conv1(x)))


class InferenceMBConv(InferenceModule):
    """:class:`MBConv` for inference."""

    def __init__(self, block: MBConv) -> None:
        super().__init__()
        self.expand = fold_pointwise(block.conv1)
        self.depthwise = InferenceConv(block.conv2)
        self.reduce = fold_pointwise(block.conv3)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, dim, H, W), which may be overwritten."""
        return channels_first(overwrite_in_bands(self._transform, channels_last(x)))

    def _transform(self, x: Tensor) -> Tensor:
        hidden = gelu_(self.depthwise(gelu_(self.expand(x))))
        return gelu_(self.reduce(hidden).add_(x))


class InferencePatchMerging(InferenceModule):
    """:class:`PatchMerging` for inference."""

    def __init__(self, merging: PatchMerging) -> None:
        super().__init__()
        self.narrow = fold_pointwise(merging.conv1)
        self.depthwise = InferenceConv(merging.conv2)
        self.mix = fold_pointwise(merging.conv3)
        self.stride = int(merging.conv2.conv.stride[0])

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out_dim, ceil(H/stride), ceil(W/stride))."""
        return channels_first(in_bands(self._merge, channels_last(x), self.stride))

    def _merge(self, x: Tensor) -> Tensor:
        return self.mix(gelu_(self.depthwise(gelu_(self.narrow(x)))))
