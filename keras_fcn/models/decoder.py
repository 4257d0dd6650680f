"""Decoders: from the coarsest features and the skip connections to logits at the image's size."""

import dataclasses

import keras
from keras import layers

from keras_fcn.layers import Bilinear, CropToReference, FCNConv2DTranspose
from keras_fcn.models.features import Features
from keras_fcn.models.upsampling import AlignedFeatures

# Upsampled scores end inside their skip, unless fc6's kernel size is 3: then the crop offset is 1,
# and the scores may extend up to 2 pixels beyond pool3.
_OFFSET_THAT_MAY_NOT_FIT = 1


@dataclasses.dataclass(frozen=True)
class DecoderLayers:
    """The layers of a decoder: scores of the classes, bilinear upsampling, cropping.

    Args:
        num_classes: Number of classes.
        trainable_upsampling: Whether the transposed convolutions are trainable.
        data_format: Data format of all feature maps.
        dtype: The layers' `keras.DTypePolicy`.
        suffix: End of the names of the layers, for networks with several decoders.
    """

    num_classes: int
    trainable_upsampling: bool
    data_format: str
    dtype: keras.DTypePolicy
    suffix: str = ""

    def score(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Returns the scores of features: a 1x1 convolution to the classes, zero at first."""
        return layers.Conv2D(
            self.num_classes,
            1,
            kernel_initializer="zeros",
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}{self.suffix}",
        )(x)

    def _upsample(self, x, factor, name, kernel_size=None):
        return FCNConv2DTranspose(
            self.num_classes,
            kernel_size or 2 * factor,
            strides=factor,
            use_bias=False,
            kernel_initializer=Bilinear(),
            trainable=self.trainable_upsampling,
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}{self.suffix}",
        )(x)

    def _crop(self, x, reference, offset, name):
        return CropToReference(
            offset,
            data_format=self.data_format,
            dtype=self.dtype,
            name=f"{name}{self.suffix}",
        )([x, reference])


class Decoder(DecoderLayers):
    """The layers after fc7, as in figure 3 of the paper: score, upsample, crop, add."""

    def logits(self, features: Features, image: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the logits, (batch, height, width, num_classes), with the image's size.

        Args:
            features: `Features` of the image. Each skip has half the output stride of the one
                before.
            image: KerasTensor of the image, without input padding.
        """
        *skip_offsets, logits_offset = features.crop_offsets
        x = self.score(features.fc7, "score_fr")
        stride, upsampling = 32, "upscore2"
        for (name, skip), offset in zip(features.skips.items(), skip_offsets, strict=True):
            x = self._upsample(x, 2, upsampling)
            skip = self.score(skip, f"score_{name}")
            if offset >= 0:
                skip = self._crop(skip, x, offset, f"crop_score_{name}")
                if offset <= _OFFSET_THAT_MAY_NOT_FIT:
                    x = self._crop(x, skip, 0, f"crop_{upsampling}")
            else:
                x = self._crop(x, skip, -offset, f"crop_{upsampling}")
            x = layers.Add(name=f"fuse_{name}{self.suffix}", dtype=self.dtype)([x, skip])
            stride, upsampling = stride // 2, f"upscore_{name}"
        return self.at_image_size(x, image, stride, logits_offset, crop_name="crop_logits")

    def at_image_size(
        self,
        scores: keras.KerasTensor,
        image: keras.KerasTensor,
        stride: int,
        crop_offset: int,
        crop_name: str | None = None,
        kernel_size: int | None = None,
    ) -> keras.KerasTensor:
        """Returns the scores, upsampled in one step and cropped to the height and width of `image`.

        Args:
            scores: KerasTensor of the scores.
            image: As in `logits`.
            stride: Output stride of `scores`: image pixels per pixel of `scores`.
            crop_offset: The last of `fcn_crop_offsets`.
            crop_name: Name of the cropping layer; `None` derives it from the upsampling layer's.
            kernel_size: Of the bilinear kernel; `None` for twice the stride.
        """
        upsampling = "upscore" if stride == 32 else f"upscore{stride}"
        x = self._upsample(scores, stride, upsampling, kernel_size)
        return self._crop(x, image, crop_offset, crop_name or f"crop_{upsampling}")


class AlignedDecoder(DecoderLayers):
    """Scores the features of a backbone, upsamples, crops and adds them."""

    def logits(
        self,
        aligned: AlignedFeatures,
        head: keras.KerasTensor,
        skips: list,
        image: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Returns the logits at the image's size.

        Args:
            aligned: How the features are aligned.
            head: KerasTensor of the coarsest stride, which is scored first.
            skips: The finer features.
            image: The image, of which only the size is used.
        """
        x = self.score(head, "score_fr")
        references = [
            self.score(skip, f"score_stride{stride}")
            for skip, stride in zip(skips, aligned.strides[1:], strict=True)
        ]
        for step, reference, stride in zip(
            aligned.upsamplings, [*references, image], [*aligned.strides[1:], 1], strict=True
        ):
            name = f"upscore{step.factor}" if stride == 1 else f"upscore_to_stride{stride}"
            x = self._upsample(x, step.factor, name, step.kernel_size)
            if step.crop < 0:
                reference = self._crop(reference, x, -step.crop, f"crop_stride{stride}")
            x = self._crop(x, reference, max(step.crop, 0), f"crop_{name}")
            if step.is_shorter and step.crop >= 0:
                reference = self._crop(reference, x, 0, f"crop_stride{stride}")
            if stride != 1:
                x = layers.Add(name=f"fuse_stride{stride}", dtype=self.dtype)([x, reference])
        return x
