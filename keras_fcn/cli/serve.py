"""`keras-fcn serve`: a page and an HTTP API that predict with a model."""

import argparse
import sys
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.serve.limits import Limits


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn serve` and its options."""
    parser = shared.add_command(
        subparsers, "serve", run, help="serve a page and an HTTP API that predict photos"
    )
    shared.add_trained_model(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default: %(default)s"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port to listen on; 0: a free one; default: %(default)s",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name under which the server may be addressed, besides localhost, 127.0.0.1 and "
        "--host; may be repeated; '*': any",
    )
    parser.add_argument(
        "--max-side",
        type=int,
        metavar="PIXELS",
        help="predict larger photos in a copy with this longest side, and enlarge the label map",
    )
    limits = {
        "max_megabytes": (float, "largest body, in 1,000,000 bytes"),
        "max_megapixels": (float, "largest photo, in 1,000,000 pixels"),
        "timeout": (float, "seconds for a body to arrive, and for its prediction to end"),
        "queue": (int, "requests at a time; others are answered with 429"),
    }
    for name, (kind, help_text) in limits.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=getattr(Limits, name),
            metavar="N",
            help=f"{help_text}; default: {getattr(Limits, name)}",
        )
    shared.add_views(parser)
    shared.add_colour_blind(parser)


def run(options: argparse.Namespace) -> None:
    """Serves until Ctrl-C or SIGTERM."""
    from keras_fcn.serve import check_serve

    check_serve()
    from keras_fcn.serve import server
    from keras_fcn.serve.app import create_app

    limits = Limits(**{name: getattr(options, name) for name in vars(Limits())})
    with server.sigterm_exits(), server.listen(options.host, options.port) as listening:
        served = _served(options)
        server.warm_up(served)
        app = create_app(served, limits, allowed_hosts=[options.host, *options.allowed_host])
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"{served.name}: http://{host}:{listening.getsockname()[1]}/", flush=True)
        print("Ctrl-C stops the server.", file=sys.stderr)
        server.run(app, listening, patience=limits.timeout)


def _served(options):
    """Returns the `ServedModel` that the options describe."""
    from keras_fcn.serve.segmentation import ServedModel
    from keras_fcn.weights import find_published

    trained = shared.open_model(options, needs_probabilities=True)
    published = find_published(options.model)
    return ServedModel(
        # Strangers need not know the folder.
        name=Path(options.model).resolve().name,
        model=trained.model,
        label_space=shared.shown_space(options, trained),
        max_side=options.max_side,
        license=published.license if published else None,
        sources=published.sources if published else (),
        **shared.views(options, trained),
    )
