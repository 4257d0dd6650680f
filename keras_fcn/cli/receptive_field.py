"""`keras-fcn receptive-field`: strides, offsets and receptive fields of a network's layers."""

import argparse
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_plot

_APPLICATIONS = "keras.applications:"


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn receptive-field` and its options."""
    parser = shared.add_command(
        subparsers,
        "receptive-field",
        run,
        help="print stride, offset and receptive field of every layer",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"run folder, model or weight file, or {_APPLICATIONS}NAME such as "
        f"{_APPLICATIONS}ResNet50",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(2048, 2048),
        metavar=("HEIGHT", "WIDTH"),
        help="size of the image in pixels, on which offsets may depend; default: 2048 2048",
    )
    parser.add_argument(
        "--misaligned",
        choices=("raise", "first"),
        default="raise",
        help="what to do where a network adds feature maps that are not aligned: raise an error, "
        "or take the offset of the first one; default: %(default)s",
    )
    parser.add_argument("--chart", metavar="PNG", help="drawing of the receptive fields to write")
    parser.add_argument("--image", metavar="IMAGE", help="photo to draw them on")


def run(options: argparse.Namespace) -> None:
    """Prints the table and draws the receptive fields."""
    if options.image and not options.chart:
        raise ValueError("--image needs a drawing to write (--chart PNG). Received: no --chart.")
    size = tuple(options.size)
    if min(size) < 1:
        raise ValueError(
            f"--size must be a height and a width of at least 1. Received: {size[0]} {size[1]}."
        )
    if options.chart:
        check_plot("--chart", options.chart, [Path(options.image)] if options.image else [])
    from keras_fcn.alignment import coordinate_maps

    if options.image:
        from keras_fcn.data.image_files import read_image

        image = read_image(options.image)
        size = image.shape[:2]
    else:
        image = None
    network = _network(options.model)
    maps = coordinate_maps(network, misaligned=options.misaligned, image_size=size)
    rows, last = [], None
    for name, found in maps.items():
        # Layers that change nothing, such as activations, are left out.
        if (found.height, found.width, found.size) != last:
            rows.append((name, found))
        last = found.height, found.width, found.size
    print(f"{'layer':<28} {'size':>11} {'stride':>7} {'offset':>8} {'receptive field':>16}")
    for name, found in rows:
        pixels = f"{found.size[0]}x{found.size[1]}"
        axes = [found.height] if found.height == found.width else [found.height, found.width]
        strides, offsets, fields = (
            "x".join(f"{float(getattr(axis, key)):g}" for axis in axes)
            for key in ("stride", "offset", "receptive_field")
        )
        print(f"{name:<28} {pixels:>11} {strides:>7} {offsets:>8} {fields:>16}")
    if options.chart:
        from keras_fcn.visualization import plot_receptive_fields

        plot_receptive_fields(dict(rows), size, options.chart, image)


def _network(name):
    if not name.startswith(_APPLICATIONS):
        from keras_fcn.training.trained import open_model

        return open_model(name).model
    from keras_fcn.models.applications import application

    return application(name.removeprefix(_APPLICATIONS))
