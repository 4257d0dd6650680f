"""One network of `benchmarks.backbones` in a separate process, which that command starts.

Predicts once per line of standard input, as in `benchmarks.contestant`; with `--count`, counts
parameters and arithmetic instead.
"""

import argparse
import json
import os

import numpy as np

from benchmarks import devices
from benchmarks.contestant import NUM_CLASSES, redirected, serve
from benchmarks.peers import segmentation

PEERS = {
    "torchvision": segmentation.fcn_resnet50,
    "segmentation_models_pytorch": segmentation.fpn_resnet50,
}


def main() -> None:
    """Counts, or predicts once per line of standard input until it ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", help="network of `keras.applications`, or package of a peer")
    parser.add_argument("--fc-units", type=int)
    parser.add_argument("--channels-first", action="store_true")
    parser.add_argument("--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--count", action="store_true")
    options = parser.parse_args()
    answers = redirected()
    library = os.environ["KERAS_BACKEND"]
    devices.set_float32_products(library, "float32")
    if options.name in PEERS:
        network = PEERS[options.name](NUM_CLASSES).eval()
        values = _values_of_module(network)
    else:
        network = fcn(options.name, options.fc_units, options.channels_first)
        values = network.count_params()
    image = np.random.default_rng(0).integers(0, 256, (1, *options.size, 3)).astype("float32")

    def predict():
        if options.name in PEERS:
            return segmentation.predict(network, image)
        return network.predict(image, verbose=0)

    if options.count:
        counted = {"parameters": values, "flop": flop(predict)}
        print(json.dumps(counted), file=answers, flush=True)
    else:
        serve(predict, answers, library, {})


def fcn(name: str, fc_units: int | None, channels_first: bool = False):
    """Returns FCN-8s on a network of `keras.applications`, on the package's own VGG-16 for VGG16.

    Args:
        name: Name of the network.
        fc_units: Units of the head; the default if `None`.
        channels_first: Whether the backbone computes in channels first.
    """
    import keras

    import keras_fcn

    arguments = {} if fc_units is None else {"fc_units": fc_units}
    if name == "VGG16":
        arguments["padding"] = "same"
    else:
        shape = (None, None, 3)
        if channels_first:
            keras.config.set_image_data_format("channels_first")
            shape = (3, None, None)
        arguments["backbone"] = getattr(keras.applications, name)(
            include_top=False, weights=None, input_shape=shape
        )
    model = keras_fcn.FCN8s(NUM_CLASSES, data_format="channels_last", **arguments)
    _he_initialization(model)
    return model


def _he_initialization(model):
    """Keras's initializers let activations shrink until they are subnormal, which is slow."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name != "kernel" or variable.path.startswith("upscore"):
            continue
        *inputs, outputs = variable.shape
        is_depthwise = len(inputs) == 3 and outputs == 1
        kernel = random.standard_normal(variable.shape, "float32")
        kernel *= np.float32(np.sqrt(2 / np.prod(inputs[:2] if is_depthwise else inputs)))
        variable.assign(kernel)


def _values_of_module(module):
    """Parameters, and statistics of batch normalization, which Keras counts too."""
    arrays = [*module.parameters(), *module.buffers()]
    return sum(array.numel() for array in arrays if array.is_floating_point())


def flop(predict) -> int:
    """Returns the FLOP of a prediction on PyTorch.

    Raises:
        ValueError: If the logits are not finite, or subnormal.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        logits = predict()
    if not np.finfo("float32").tiny < np.abs(logits).max() < np.inf:  # False for NaN.
        raise ValueError(f"Logits must be finite numbers. Received: {np.abs(logits).max()}")
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
