import pytest
from PIL import Image
from training.small_runs import small_recipe
from training.three_layers import FinerThreeLayers, ThreeLayers

from keras_fcn.training import report, run_writer
from keras_fcn.training.objective import MODELS
from keras_fcn.training.trackers import base as trackers


@pytest.fixture(scope="class")
def three_layers():
    """Runs of `fcn32s` and `fcn16s` train `ThreeLayers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "fcn32s", ThreeLayers)
        patch.setitem(MODELS, "fcn16s", FinerThreeLayers)
        yield


@pytest.fixture(scope="class")
def blank_plots():
    """Plots are blank, which would take half the time of a run of `ThreeLayers`."""

    def blank(values, *arguments):
        Image.new("L", (8, 8)).save(arguments[-1], "PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_writer, "plot_curves", blank)
        patch.setattr(report, "plot_curves", blank)
        patch.setattr(report, "plot_confusion_matrix", blank)
        patch.setattr(trackers, "plot_confusion_matrix", blank)
        yield


@pytest.fixture
def recipe(tmp_path):
    return small_recipe(tmp_path)
