"""A server that predicts photos over HTTP, and its page for a browser."""

import importlib.util


def check_serve() -> None:
    """Raises an ImportError if Starlette or uvicorn is not installed."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f"{name} must be installed for a server: pip install 'keras-fcn[serve]'"
            )
