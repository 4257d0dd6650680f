"""`keras-fcn reproduce`: scores released or retrained models and compares with published scores."""

import argparse
import json

from keras_fcn.cli import options as shared
from keras_fcn.cli import recipe_options
from keras_fcn.cli.quiet_imports import import_tensorflow

_OUT = "runs/reproduce"
_MODELS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn reproduce` and its options."""
    parser = shared.add_command(
        subparsers,
        "reproduce",
        run,
        help="score released models, or retrain them, and compare with their published scores",
    )
    parser.add_argument("experiment", choices=["pascal_voc"])
    parser.add_argument(
        "--models",
        nargs="+",
        choices=_MODELS,
        metavar="MODEL",
        help=f"some of {', '.join(_MODELS)}; default: all",
    )
    parser.add_argument(
        "--train",
        action="store_true",
        help="train the models' recipes from ImageNet weights and score the trained models; the "
        "exit code is 1 if a mean IoU differs by more than --tolerance",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"folder of the runs of --train, which are resumed there; default: {_OUT}",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="NUMBER",
        help="largest difference in mean IoU with --train, a fraction; default: 0.01",
    )
    recipe_options.add_set(parser)
    shared.add_setting(parser, "data_dir")
    shared.add_setting(parser, "manual_dir")
    shared.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prints the scores of models next to the published scores; 1 if retrained ones differ."""
    import_tensorflow()
    places = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    if options.train:
        return _retrain(options, places)
    if options.out or options.tolerance is not None or options.set:
        raise ValueError("--out, --tolerance and --set must be given with --train.")
    from keras_fcn.training.reproduce import reproduce

    report = reproduce(options.experiment, models=options.models, **places)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
    return 0


def _retrain(options, places):
    from keras_fcn.training.retrain import TOLERANCE, retrain

    report = retrain(
        options.experiment,
        options.out or _OUT,
        models=options.models,
        changes=recipe_options.of_set(options),
        tolerance=TOLERANCE if options.tolerance is None else options.tolerance,
        **places,
    )
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
    return 0 if report.is_reproduced else 1
