"""What an exported file stores besides the network: classes, colours, mean, licence."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.models.base import BaseFCN
from keras_fcn.version import __version__
from keras_fcn.weights.metadata import mean_of


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Description of an exported model; every format stores it in its own place.

    Args:
        network: Class of the model, such as `"FCN8s"`.
        output: One of `keras_fcn.spec.EXPORT_OUTPUTS`.
        class_names: Names of the classes.
        palette: Colour (red, green, blue) of each class.
        ignore_class: Class id of ignored pixels, `None` for none.
        ignore_colour: Colour of ignored pixels in label maps of colours, `None` for none.
        num_channels: Channels of the images.
        modalities: What these channels are, see `keras_fcn.models.base.BaseFCN`.
        data_format: `"channels_last"` or `"channels_first"`, of images, logits and probabilities.
        mean: Mean that the preprocessing in the file subtracts, `None` without one.
        size: (height, width) of the images, `None` for every size.
        batch_size: Number of images in a batch, `None` for any number.
        quantization: `"float16"`, `"int8"` or `None`.
        license: License of the model, `None` if it is not known.
        version: Version of keras_fcn that wrote the file.
    """

    network: str
    output: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_class: int | None = None
    ignore_colour: tuple[int, int, int] | None = None
    num_channels: int = 3
    modalities: tuple[str, ...] = ("image",)
    data_format: str = "channels_last"
    mean: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    batch_size: int | None = None
    quantization: str | None = None
    license: str | None = None
    version: str = __version__

    @classmethod
    def of(cls, model: BaseFCN, output: str, **others: Any) -> "Metadata":
        """Returns the metadata of a model; without a label space, its classes are numbered."""
        space = model.label_space or generic(model.num_classes)
        return cls(
            type(model).__name__,
            output,
            space.class_names,
            space.palette,
            space.ignore_class,
            space.ignore_colour,
            num_channels=model.num_channels,
            modalities=model.modalities,
            data_format=model.data_format,
            mean=mean_of(model),
            **others,
        )

    @property
    def label_space(self) -> LabelSpace:
        """`LabelSpace` of the classes."""
        return LabelSpace(self.class_names, self.palette, self.ignore_class, self.ignore_colour)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of a batch of images, `None` for an axis of any length."""
        height, width = self.size or (None, None)
        if self.data_format == "channels_first":
            return (self.batch_size, self.num_channels, height, width)
        return (self.batch_size, height, width, self.num_channels)

    def as_strings(self) -> dict[str, str]:
        """Returns each value that is not `None` by its name: text as it is, others as JSON."""
        values = dataclasses.asdict(self).items()
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in values
            if value is not None
        }

    @classmethod
    def from_strings(cls, strings: Mapping[str, str]) -> "Metadata":
        """Returns the metadata that `as_strings` returned; other names are skipped.

        Raises:
            ValueError: If a value is missing or no JSON.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted({"network", "output", "class_names", "palette"} - set(strings)):
            raise ValueError(f"its metadata lack {', '.join(missing)}")
        values: dict[str, Any] = {
            name: value if name in _TEXTS else _as_tuple(json.loads(value))
            for name, value in strings.items()
            if name in names
        }
        return cls(**values)


_TEXTS = ("network", "output", "data_format", "quantization", "license", "version")


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
