from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared():
    """Folder of real data and weights beside the repository, which not everybody has."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return folder
