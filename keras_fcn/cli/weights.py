"""`keras-fcn weights`: lists the published weights."""

import argparse
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
    from keras_fcn.weights import registry

    entries = registry()
    if options.json:
        print(json.dumps(entries, indent=2))
        return
    for entry in entries:
        place = "part of the package" if entry["packaged"] else "downloaded on first use"
        print(
            f"{entry['name']}: {entry['model']}, {len(entry['classes'])} classes, "
            f"{entry['parameters'] / 1e6:.1f} million parameters, {entry['bytes'] / 1e6:.0f} MB, "
            f"{place}"
        )
        if entry["scores"]:
            print(
                f"    mean IoU {entry['scores']['mean_iou']:.3f} on {entry['scored_on']}; source: "
                f"{entry['scores_source']}"
            )
        print(f"    license: {entry['license']}; source: {entry['sources'][0]}")
        if entry["training"]:
            print(f"    training: {entry['training']}")
