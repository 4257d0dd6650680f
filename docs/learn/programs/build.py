"""FCN-8s in plain Keras: python build.py [STEPS]. 200 steps take about two minutes on two cores."""

import sys

import keras
import numpy as np
from keras import layers, losses, ops

import keras_fcn
from keras_fcn.data.drawn_shapes import SHAPES, draw_shapes

CLASSES, UNITS, STEPS = 4, 128, int((*sys.argv[1:], 200)[0])


def upsample(x, stride, name):
    """Returns the scores, upsampled bilinearly by a transposed convolution."""
    row = 1 - abs(np.arange(2 * stride) - (stride - 0.5)) / stride
    bilinear = keras.initializers.Constant(np.outer(row, row)[..., None, None] * np.eye(CLASSES))
    options = {"use_bias": False, "kernel_initializer": bilinear, "trainable": False}
    return layers.Conv2DTranspose(CLASSES, 2 * stride, stride, name=name, **options)(x)


def crop(x, offset, like):
    """Returns the window of x that begins at `offset` and has the size of `like`."""
    return layers.Lambda(
        lambda both: both[0][:, : ops.shape(both[1])[1], : ops.shape(both[1])[2]],
        output_shape=(None, None, CLASSES),
    )([x[:, offset:, offset:], like])


trained, vgg16 = keras_fcn.FCN8s(11, weights="camvid"), keras.applications.vgg16
image, features = keras.Input((None, None, 3)), {}
x = layers.ZeroPadding2D(99)(vgg16.preprocess_input(image))
for layer in vgg16.VGG16(include_top=False, weights=None).layers[1:]:
    x = layers.MaxPooling2D(2, padding="same")(x) if "pool" in layer.name else layer(x)
    layer.set_weights(trained.get_layer(layer.name).get_weights())
    layer.trainable, features[layer.name] = layer.name >= "block4", x
x = layers.Dropout(0.5)(layers.Conv2D(UNITS, 7, activation="relu", name="fc6")(x))
x = layers.Dropout(0.5)(layers.Conv2D(UNITS, 1, activation="relu", name="fc7")(x))
scores = {"filters": CLASSES, "kernel_size": 1, "kernel_initializer": "zeros"}
x = upsample(layers.Conv2D(**scores, name="score_fr")(x), 2, "upscore2")
pool4 = layers.Conv2D(**scores, name="score_pool4")(features["block4_pool"])
x = upsample(x + crop(pool4, 5, like=x), 2, "upscore_pool4")
pool3 = layers.Conv2D(**scores, name="score_pool3")(features["block3_pool"])
x = upsample(x + crop(pool3, 9, like=x), 8, "upscore8")
model = keras.Model(image, crop(x, 31, like=image))
model.compile(keras.optimizers.Adam(1e-4), losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(*draw_shapes(STEPS, seed=1), batch_size=1, verbose=0)
new, truth = draw_shapes(8, seed=2)
print("loss on new images below log 4:", model.evaluate(new, truth, verbose=0) < np.log(4))
label_maps = np.array(SHAPES.palette)[[truth, model.predict(new, verbose=0).argmax(-1)]]
picture = np.vstack([np.hstack(row) for row in (new, *label_maps)])
keras.utils.array_to_img(picture, scale=False).resize((768, 288), 0).save("build.png")
package = keras_fcn.FCN8s(CLASSES, fc_units=UNITS, mean=(103.939, 116.779, 123.68))
for layer in (layer for layer in model.layers if layer.weights):
    package.get_layer(layer.name).set_weights(layer.get_weights())
for height, width in ((64, 64), (33, 57)):
    mine, its = (ops.convert_to_numpy(m(new[:1, :height, :width])) for m in (model, package))
    print(f"{height}x{width}: logits {mine.shape}, equal:", np.allclose(mine, its, atol=1e-3))
