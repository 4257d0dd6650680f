"""A demonstration without downloads: stage-wise training of FCN-32s, 16s and 8s on drawn shapes."""

import os
import time
from pathlib import Path

import keras

from keras_fcn.data.drawn_shapes import SHAPES, draw_shapes
from keras_fcn.inference import predict_label_maps
from keras_fcn.metrics import confusion_matrix
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.spec import VGG16_FILTERS
from keras_fcn.training.evaluate import Scores, score_title
from keras_fcn.training.progress import progress_bar
from keras_fcn.visualization import colorize, picture_row, stack_pictures

_NUM_TRAIN, _NUM_VAL, _NUM_SHOWN, _IMAGE_SIZE = 256, 64, 4, 96
_BATCH_SIZE, _LEARNING_RATE = 4, 1e-3
_FILTERS, _FC_UNITS = (8, 16, 32, 64, 128), 64
# (name, model, epochs) of each stage, which starts from the weights of the previous one.
_STAGES = (("FCN-32s", FCN32s, 4), ("FCN-16s", FCN16s, 2), ("FCN-8s", FCN8s, 3))


def demo(out: str | os.PathLike) -> dict[str, Scores]:
    """Trains the three models stage by stage, as in the paper, and compares them.

    Training starts from scratch, with initial values for that purpose instead of VGG-16's weights.
    The network is small, so that two CPU cores are enough: VGG-16's thirteen convolutions with 8 to
    128 filters instead of 64 to 512, and 64 units instead of 4096 in fc6 and fc7.

    Args:
        out: PNG file to write: image, FCN-32s, FCN-16s, FCN-8s, ground truth.

    Returns:
        Dictionary from the name of each model to its `Scores` on validation images.

    Raises:
        FileNotFoundError: If the folder of `out` does not exist.
    """
    if not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"`out` must lie in an existing folder. Received: out={out}.")
    started = time.monotonic()
    keras.utils.set_random_seed(0)
    print(
        "FCN-32s, FCN-16s and FCN-8s in turn on drawn discs, squares and triangles, from random\n"
        f"values, without VGG-16's weights. The network is slim: filters={_FILTERS}\n"
        f"instead of {VGG16_FILTERS}, fc_units={_FC_UNITS} instead of 4096, padding='same'.",
        flush=True,
    )
    images, label_maps = draw_shapes(_NUM_TRAIN + _NUM_VAL, size=_IMAGE_SIZE)
    train = images[:_NUM_TRAIN], label_maps[:_NUM_TRAIN]
    val_images, val_label_maps = images[_NUM_TRAIN:], label_maps[_NUM_TRAIN:]

    scores, predictions, model = {}, {}, None
    for name, stage, epochs in _STAGES:
        model = _train_stage(name, stage, model, train, epochs)
        predictions[name] = predict_label_maps(model, val_images)
        scores[name] = Scores(
            confusion_matrix(val_label_maps, predictions[name], SHAPES.num_classes)
        )

    _print_table(scores)
    _picture(val_images, predictions, val_label_maps).save(out)
    print(f"Picture: {out} ({time.monotonic() - started:.0f} s)")
    return scores


def _print_table(scores):
    columns = list(next(iter(scores.values())).as_dict())
    titles = [score_title(column) for column in columns]
    print(f"{_NUM_VAL} new images  " + "  ".join(titles))
    for name, score in scores.items():
        values = zip(titles, score.as_dict().values(), strict=True)
        print(f"{name:<13}  " + "  ".join(f"{value:>{len(title)}.4f}" for title, value in values))


def _picture(images, predictions, label_maps):
    rows = []
    for index in range(_NUM_SHOWN):
        panels = {"image": images[index]}
        panels |= {name: colorize(maps[index], SHAPES) for name, maps in predictions.items()}
        panels["truth"] = colorize(label_maps[index], SHAPES)
        rows.append(picture_row(panels, height=192))
    return stack_pictures(rows)


def _train_stage(name, stage, coarser, train, epochs):
    model = stage(
        num_classes=SHAPES.num_classes,
        weights=coarser,
        input_shape=(*train[0].shape[1:3], 3),
        padding="same",
        filters=_FILTERS,
        fc_units=_FC_UNITS,
        dropout_rate=0.0,
        data_format="channels_last",
    )
    if coarser is None:
        _set_initial_values(model, train[0][:32])
    steps = epochs * (len(train[0]) // _BATCH_SIZE)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    with progress_bar(f"training {name}", steps) as advance:
        show_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: advance(note=f"loss {logs['loss']:.3f}")
        )
        model.fit(*train, batch_size=_BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[show_step])
    return model


def _set_initial_values(model, images):
    """Initializes kernels and biases so that each channel has mean 0 and variance 1.

    This is the data-dependent initialization of Salimans & Kingma (2016). Without it the features
    of thirteen random layers are nearly the same for every image, and the deepest learn slowly.
    """
    x = images
    for layer in model.layers[1 : model.layers.index(model.get_layer("fc7")) + 1]:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(keras.initializers.HeNormal(0)(layer.kernel.shape))
            relu, layer.activation = layer.activation, keras.activations.linear
            axes = (0, 1, 2) if layer.data_format == "channels_last" else (0, 2, 3)
            mean, variance = keras.ops.moments(layer(x), axes)
            deviation = keras.ops.sqrt(variance) + 1e-6
            layer.kernel.assign(layer.kernel / deviation)
            layer.bias.assign(-mean / deviation)
            layer.activation = relu
        x = layer(x)
