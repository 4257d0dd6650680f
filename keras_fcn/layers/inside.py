"""Lists the layers of a model and of the models inside it."""

from collections.abc import Iterator

import keras


def with_layers_inside(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields every layer of a model; a model among them, such as a backbone, before its layers."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from with_layers_inside(layer)
