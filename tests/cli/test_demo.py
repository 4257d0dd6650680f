import pytest
from cli.command_line import error_of

from keras_fcn.cli import main


@pytest.mark.any_backend
def test_the_demonstration_looks_for_its_folder_before_it_trains(data, capsys):
    assert main(["demo", "--out", str(data / "absent" / "demo.png")]) == 1
    assert "`out` must lie in an existing folder" in error_of(capsys)
