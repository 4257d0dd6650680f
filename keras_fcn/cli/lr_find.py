"""`keras-fcn lr-find`: the learning-rate range test of a recipe."""

import argparse
import json

from keras_fcn.cli import options as shared
from keras_fcn.cli import recipe_options
from keras_fcn.cli.output_files import check_plot
from keras_fcn.cli.quiet_imports import import_tensorflow


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn lr-find` and its options."""
    parser = shared.add_command(
        subparsers,
        "lr-find",
        run,
        help="find a learning rate for a recipe: the loss while the rate grows",
    )
    recipe_options.add_recipe(parser)
    parser.add_argument(
        "--out", default="lr.png", metavar="PNG", help="file for the curve; default: %(default)s"
    )
    parser.add_argument(
        "--steps",
        dest="num_rates",
        type=int,
        default=100,
        metavar="N",
        help="number of rates; default: %(default)s",
    )
    parser.add_argument(
        "--smallest",
        type=float,
        default=1e-7,
        metavar="RATE",
        help="the first learning rate; default: %(default)s",
    )
    parser.add_argument(
        "--largest",
        type=float,
        default=1.0,
        metavar="RATE",
        help="the last learning rate; default: %(default)s",
    )
    shared.add_json(parser)
    recipe_options.add_settings(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the suggested learning rate and draws the losses."""
    import_tensorflow()
    from keras_fcn.training.lr_finder import find_learning_rate
    from keras_fcn.visualization import plot_rate_search

    check_plot("--out", options.out)
    _, recipe = recipe_options.find(options.recipe, recipe_options.changes(options))
    search = find_learning_rate(
        recipe, steps=options.num_rates, smallest=options.smallest, largest=options.largest
    )
    if options.json:
        print(json.dumps(search.as_dict(), indent=2))
    else:
        _print(search)
    # The rates are printed even if the curve cannot be written.
    plot_rate_search(
        search.rates, search.losses, search.smoothed, options.out, suggestion=search.suggestion
    )
    if not options.json:
        print(f"Curve: {options.out}")


def _print(search):
    print(f"rates              {search.rates[0]:.3g} to {search.rates[-1]:.3g}")
    best = min(range(len(search.rates)), key=search.smoothed.__getitem__)
    print(f"smallest loss      {search.smoothed[best]:.4g} at {search.rates[best]:.3g}")
    if search.diverged:
        print(f"diverged           at {search.rates[-1]:.3g}")
    if search.suggestion is None:
        print("suggestion         none: the loss does not fall at any of the rates")
    else:
        print(f"suggestion         --learning-rate {search.suggestion:.2g}")
