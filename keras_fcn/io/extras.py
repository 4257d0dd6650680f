"""Packages of the optional dependencies ("extras")."""

import importlib.util


def check_installed(extra: str, packages: tuple[str, ...], purpose: str) -> None:
    """Checks that packages of an extra can be imported, without importing them.

    Args:
        extra: Name of the extra in pyproject.toml.
        packages: Names to import.
        purpose: What they are for, such as "for polygons".

    Raises:
        ImportError: If one is missing; the message states how to install it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{', '.join(missing)} must be installed {purpose}: pip install 'keras-fcn[{extra}]'"
        )
