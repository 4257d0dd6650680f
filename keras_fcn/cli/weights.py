"""`keras-fcn weights`: lists the published weights."""

import argparse
import dataclasses
import json

from keras_fcn.cli import options as shared


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn weights` and its options."""
    parser = shared.add_command(
        subparsers, "weights", run, help="list the published weights, by name"
    )
    shared.add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the registry of published weights."""
    from keras_fcn.weights import PUBLISHED_WEIGHTS

    if options.json:
        print(json.dumps([_as_json(published) for published in PUBLISHED_WEIGHTS], indent=2))
        return
    for published in PUBLISHED_WEIGHTS:
        place = "part of the package" if published.is_packaged else "downloaded on first use"
        print(
            f"{published.name}: {published.model_name}, "
            f"{published.label_space.num_classes} classes, "
            f"{published.parameters / 1e6:.1f} million parameters, "
            f"{_size(published) / 1e6:.0f} MB, {place}"
        )
        if published.scores:
            print(f"    mean IoU {published.scores['mean_iou']:.3f} on {published.scored_on}")
        print(f"    license: {published.license}; source: {published.sources[0]}")
        if published.training:
            print(f"    trained by: {published.training}")


def _size(published):
    """Returns the size of the weights in bytes, in float32 if no file's size is known."""
    return published.files[0].size or 4 * published.parameters


def _as_json(published):
    return {
        "name": published.name,
        "model": published.model_name,
        "classes": published.label_space.class_names,
        "parameters": published.parameters,
        "packaged": published.is_packaged,
        "bytes": _size(published),
        "files": [dataclasses.asdict(file) for file in published.files],
        "scores": published.scores,
        "scored_on": published.scored_on if published.scores else None,
        "license": published.license,
        "sources": published.sources,
        "training": published.training,
    }
