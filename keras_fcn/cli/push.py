"""`keras-fcn push`: publishes the model of a run on the Hugging Face Hub."""

import argparse

from keras_fcn.cli import options as shared


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn push` and its options."""
    parser = shared.add_command(
        subparsers, "push", run, help="publish the model of a run on the Hugging Face Hub"
    )
    parser.add_argument("folder", metavar="RUN", help="folder of a finished run, written by train")
    parser.add_argument(
        "repo", metavar="REPO", help="hf://OWNER/REPO, which is created if it does not exist"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch; default: main")
    parser.add_argument("--private", action="store_true", help="keep the repository private")
    parser.add_argument(
        *("--license", "--licence"),
        metavar="NAME",
        help="licence of the model, such as cc-by-4.0; default: unknown",
    )
    parser.add_argument(
        "--dry-run", metavar="DIR", help="write the files into a new folder and upload nothing"
    )


def run(options: argparse.Namespace) -> None:
    """Uploads the files and prints the address of the model."""
    from keras_fcn.training.push import push, write_published

    if options.dry_run is not None:
        write_published(options.folder, options.repo, options.dry_run, license=options.license)
        print(f"Files: {options.dry_run}")
        return
    address = push(
        options.folder,
        options.repo,
        revision=options.revision,
        private=options.private,
        license=options.license,
    )
    print(address)
