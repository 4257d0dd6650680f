"""A server that predicts photos over HTTP, and its page for a browser."""

from keras_fcn.io.extras import check_installed


def check_serve() -> None:
    """Raises an ImportError if Starlette or uvicorn is not installed."""
    check_installed("serve", ("starlette", "uvicorn"), "for a server")
