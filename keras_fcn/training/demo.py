"""A demonstration without downloads: FCN-32s, 16s and 8s in turn on drawn shapes."""

import os
import time

import keras

from keras_fcn.data.drawn_shapes import SHAPES, draw_shapes
from keras_fcn.inference import predict_label_maps
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.training.evaluate import Scores, evaluate
from keras_fcn.training.progress import progress_bar
from keras_fcn.visualization import colorize, picture_row, stack_pictures

_NUM_TRAIN, _NUM_VAL, _NUM_SHOWN = 512, 64, 4
_BATCH_SIZE = 8
# (name, model, epochs, learning rate) of each stage; each starts where the one before stopped.
_STAGES = (
    ("FCN-32s", FCN32s, 2, 3e-4),
    ("FCN-16s", FCN16s, 2, 3e-4),
    ("FCN-8s", FCN8s, 4, 3e-4),
)


def demo(out: str | os.PathLike) -> dict[str, Scores]:
    """Trains the three models in turn, as the paper does, and compares them.

    There are no weights of VGG-16 to start from: the convolutions take He's initial values, made
    for networks that start from nothing, and fc6 and fc7 have 64 units instead of 4096.

    Args:
        out: The PNG file that is written: image, FCN-32s, FCN-16s, FCN-8s, truth.

    Returns:
        Dictionary from the name of each model to its `Scores` on images that no model has seen.
    """
    started = time.monotonic()
    keras.utils.set_random_seed(0)
    print(
        "FCN-32s, FCN-16s and FCN-8s in turn on drawn "
        f"{', '.join(name + 's' for name in SHAPES.class_names[1:])}. Without the weights of "
        "VGG-16:\nconvolutions start from He's values, fc6 and fc7 have 64 units, padding='same'.",
        flush=True,
    )
    images, label_maps = draw_shapes(_NUM_TRAIN + _NUM_VAL)
    train = images[:_NUM_TRAIN], label_maps[:_NUM_TRAIN]
    val_images, val_label_maps = images[_NUM_TRAIN:], label_maps[_NUM_TRAIN:]

    scores, predictions, model = {}, {}, None
    for name, stage, epochs, learning_rate in _STAGES:
        model = _train_stage(name, stage, model, train, epochs, learning_rate)
        batches = [(val_images, val_label_maps)]
        scores[name] = evaluate(model, batches, num_classes=SHAPES.num_classes)
        predictions[name] = predict_label_maps(model, val_images[:_NUM_SHOWN])

    _print_table(scores)
    _picture(val_images, predictions, val_label_maps).save(out)
    print(f"Picture: {out} ({time.monotonic() - started:.0f} s)")
    return scores


def _print_table(scores):
    columns = list(next(iter(scores.values())).as_dict())
    titles = [column.replace("_", " ").replace("iou", "IoU") for column in columns]
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


def _train_stage(name, stage, coarser, train, epochs, learning_rate):
    model = stage(
        num_classes=SHAPES.num_classes,
        weights=coarser,
        input_shape=(*train[0].shape[1:3], 3),
        padding="same",
        fc_units=64,
        dropout_rate=0.0,
        data_format="channels_last",
    )
    if coarser is None:
        _set_initial_values(model)
    steps = epochs * (len(train[0]) // _BATCH_SIZE)
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    with progress_bar(f"training {name}", steps) as advance:
        show_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: advance(note=f"loss {logs['loss']:.3f}")
        )
        model.fit(*train, batch_size=_BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[show_step])
    return model


def _set_initial_values(model):
    for seed, layer in enumerate(model.layers):
        if layer.name.startswith(("block", "fc")) and layer.weights:
            layer.kernel.assign(keras.initializers.HeNormal(seed)(layer.kernel.shape))
    # The image lies within 128 of 0: bring it to the scale of 1 that He's values preserve.
    first = model.get_layer("block1_conv1")
    first.kernel.assign(first.kernel / 64)
