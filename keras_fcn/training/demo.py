"""A demonstration without downloads: street scenes through a trained FCN-8s, then a short `fit`."""

import os
import time
from pathlib import Path

import keras
import numpy as np

from keras_fcn.data.drawn_shapes import SHAPES, draw_shapes
from keras_fcn.data.street_scenes import street_scenes
from keras_fcn.inference import predict_label_maps
from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import CAMVID
from keras_fcn.metrics import confusion_matrix
from keras_fcn.models.deep_supervision import with_coarser_heads
from keras_fcn.models.fcn import FCN8s
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.progress import progress_bar
from keras_fcn.visualization import colorize, legend, picture_row, stack_pictures

_HEADS = ("FCN-8s", "FCN-16s", "FCN-32s")
_NUM_TRAIN, _NUM_VAL, _IMAGE_SIZE = 256, 64, 96
_BATCH_SIZE, _EPOCHS, _LEARNING_RATE = 4, 4, 1e-3
_FILTERS, _FC_UNITS = (8, 16, 32, 64, 128), 64


def demo(out: str | os.PathLike) -> dict[str, Scores]:
    """Segments three street scenes with a trained FCN-8s, then trains a small one.

    The first network is that of `weights="camvid"`; the picture also shows what its coarser heads
    predict, those of an FCN-16s and an FCN-32s. The second one is trained on drawn shapes, from
    scratch, with initial values for that purpose instead of VGG-16's weights. It is slim: VGG-16's
    thirteen convolutions with 8 to 128 filters instead of 64 to 512, and 64 units instead of 4096
    in fc6 and fc7.

    Args:
        out: PNG file to write: image, FCN-32s, FCN-16s, FCN-8s, ground truth.

    Returns:
        Dictionary with the `Scores` of `"FCN-8s"`, `"FCN-16s"` and `"FCN-32s"` on the street
        scenes, and of `"shapes"`, the small network on validation images.

    Raises:
        FileNotFoundError: If the folder of `out` does not exist.
    """
    if not Path(out).absolute().parent.is_dir():
        raise FileNotFoundError(f"`out` must lie in an existing folder. Received: out={out}.")
    started = time.monotonic()
    scores = _street_scenes(out)
    print(f"Picture: {out} ({time.monotonic() - started:.0f} s)\n", flush=True)
    scores["shapes"] = _drawn_shapes()
    return scores


def _street_scenes(out):
    print(
        'Three validation frames of CamVid, segmented by FCN8s(num_classes=11, weights="camvid")',
        flush=True,
    )
    scenes = street_scenes()
    model = FCN8s(CAMVID.num_classes, weights="camvid", data_format="channels_last")
    heads, predictions = with_coarser_heads(model), {}
    with progress_bar("predicting", len(scenes)) as advance:
        for name, (image, _) in scenes.items():
            logits = heads.predict(image[None], verbose=0)
            predictions[name] = [head[0].argmax(-1).astype("int32") for head in logits]
            advance()
    truths = [label_map for _, label_map in scenes.values()]
    scores = {
        head: _scores(truths, [maps[index] for maps in predictions.values()], CAMVID)
        for index, head in enumerate(_HEADS)
    }
    _print_shares(list(scenes), truths, [maps[0] for maps in predictions.values()])
    for head in reversed(_HEADS):
        values = scores[head].as_dict()
        print(
            f"{head:<13} mean IoU {values['mean_iou']:.4f}, "
            f"pixel accuracy {values['pixel_accuracy']:.4f}"
        )
    rows = [
        picture_row(
            {
                name: image,
                **{
                    head: colorize(maps, CAMVID)
                    for head, maps in zip(_HEADS[::-1], predictions[name][::-1], strict=True)
                },
                "ground truth": colorize(label_map, CAMVID),
            },
            height=240,
        )
        for name, (image, label_map) in scenes.items()
    ]
    picture = stack_pictures([*rows, legend(CAMVID, rows[0].width, range(CAMVID.num_classes))])
    with atomic_write(out, sync=False) as temporary:
        picture.save(temporary)
    return scores


def _scores(truths, predictions, label_space):
    classes, ignored = label_space.num_classes, label_space.ignore_class
    return Scores(confusion_matrix(np.stack(truths), np.stack(predictions), classes, ignored))


def _print_shares(names, truths, predictions):
    """Prints the share of each class in the predictions and in the ground truth."""
    print(f"{'':<13} " + "".join(f"{name:>19}" for name in names))
    print(f"{'class':<13} " + "".join(f"{'predicted  true':>19}" for _ in names))
    for label, name in enumerate(CAMVID.class_names):
        shares = [
            f"{(prediction == label).mean():>13.1%} {(truth == label).mean():>5.1%}"
            for prediction, truth in zip(predictions, truths, strict=True)
        ]
        print(f"{name:<13} " + "".join(shares))


def _drawn_shapes():
    keras.utils.set_random_seed(0)
    print(
        "A small FCN-8s on drawn discs, squares and triangles, from random values:\n"
        f"filters={_FILTERS}, fc_units={_FC_UNITS}, padding='same'",
        flush=True,
    )
    started = time.monotonic()
    images, label_maps = draw_shapes(_NUM_TRAIN + _NUM_VAL, size=_IMAGE_SIZE)
    model = _trained(images[:_NUM_TRAIN], label_maps[:_NUM_TRAIN])
    predicted = predict_label_maps(model, images[_NUM_TRAIN:])
    scores = _scores(label_maps[_NUM_TRAIN:], predicted, SHAPES)
    values = scores.as_dict()
    print(
        f"{_NUM_VAL} new images: mean IoU {values['mean_iou']:.4f}, "
        f"pixel accuracy {values['pixel_accuracy']:.4f} ({time.monotonic() - started:.0f} s)"
    )
    return scores


def _trained(images, label_maps):
    model = FCN8s(
        num_classes=SHAPES.num_classes,
        input_shape=(*images.shape[1:3], 3),
        padding="same",
        filters=_FILTERS,
        fc_units=_FC_UNITS,
        dropout_rate=0.0,
        data_format="channels_last",
    )
    _set_initial_values(model, images[:32])
    steps = _EPOCHS * (len(images) // _BATCH_SIZE)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    with progress_bar("training", steps) as advance:
        show_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: advance(note=f"loss {logs['loss']:.3f}")
        )
        model.fit(
            images,
            label_maps,
            batch_size=_BATCH_SIZE,
            epochs=_EPOCHS,
            verbose=0,
            callbacks=[show_step],
        )
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
