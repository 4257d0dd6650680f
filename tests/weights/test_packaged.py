"""The weights that are part of the package, on the street scenes that are part of it, too."""

import shutil

import keras
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from keras_fcn import FCN8s, FCN16s
from keras_fcn.data.street_scenes import street_scenes
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import CAMVID
from keras_fcn.weights import find_published, load, published_files

# Mean IoU of each scene over the classes in it, on TensorFlow.
MEAN_IOU = {"0016E5_07959": 0.815, "0016E5_08059": 0.821, "0016E5_08159": 0.812}


@pytest.fixture(scope="module")
def model():
    return FCN8s(num_classes=11, weights="camvid")


def test_the_model_is_that_of_the_weights(model, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    config = model.get_config()
    assert config["padding"] == "same"
    assert (config["fc_units"], config["fc6_kernel_size"]) == (384, 5)
    assert config["input_upsampling"] == 2
    assert model.label_space == CAMVID
    assert model.dtype == "float32"
    load(model, "camvid")
    assert not list(tmp_path.iterdir())  # No copy in the cache.


def test_it_segments_a_street(model):
    image, truth = street_scenes()["0016E5_08059"]
    counted = truth != CAMVID.ignore_class
    predicted = predict_label_map(model, image)
    score = jaccard_score(truth[counted], predicted[counted], average="macro")
    assert score == pytest.approx(MEAN_IOU["0016E5_08059"], abs=0.002)


@pytest.mark.any_backend
def test_the_scenes_have_every_class_and_the_size_of_the_data_set():
    scenes = street_scenes()
    assert list(scenes) == list(MEAN_IOU)
    for image, label_map in scenes.values():
        assert (image.shape, image.dtype, label_map.shape) == ((360, 480, 3), "uint8", (360, 480))
        assert label_map.max() == CAMVID.ignore_class
    present = np.unique([label_map for _, label_map in scenes.values()])
    assert present.tolist() == list(range(12))


@pytest.mark.any_backend
def test_other_classes_keep_the_features():
    with pytest.warns(UserWarning, match=r"keep their values.* 11 classes, the model 4"):
        model = FCN8s(num_classes=4, weights="camvid")
    assert model.get_layer("fc6").kernel.shape == (5, 5, 512, 384)
    assert keras.ops.convert_to_numpy(model.get_layer("block1_conv1").kernel).any()


@pytest.mark.any_backend
def test_the_file_is_small_and_half_precision():
    path = published_files.packaged_file(find_published("camvid"))
    assert path.stat().st_size < 40e6
    import h5py

    dtypes = set()
    with h5py.File(path) as file:
        file.visititems(lambda _, item: dtypes.add(str(getattr(item, "dtype", None))))
    assert dtypes <= {"float16", "uint32", "None"}


@pytest.mark.any_backend
def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    path = published_files.packaged_file(find_published("camvid"))
    shutil.copy(path, tmp_path / path.name)
    with open(tmp_path / path.name, "r+b") as file:
        file.seek(10_000)
        file.write(b"damaged")
    monkeypatch.setattr(published_files, "__file__", str(tmp_path / "published_files.py"))
    with pytest.raises(OSError, match=r"must be part of the package, but .* MD5.* Install"):
        FCN8s(num_classes=11, weights="camvid")
    (tmp_path / path.name).unlink()
    with pytest.raises(OSError, match=r"must be part of the package, but .*No such file"):
        FCN8s(num_classes=11, weights="camvid")


@pytest.mark.any_backend
@pytest.mark.parametrize("changes", [{"padding": "paper"}, {"input_upsampling": 1}])
def test_another_geometry_is_warned_of(model, changes, tmp_path):
    trained = "was trained with padding='same' and input_upsampling=2, and the model has "
    with pytest.warns(UserWarning, match=f"weights='camvid' {trained}"):
        FCN8s(num_classes=11, weights="camvid", **changes)
    options = {"fc_units": 384, "fc6_kernel_size": 5, "padding": "same", "input_upsampling": 2}
    with pytest.warns(UserWarning, match=f"Model 'fcn8s' {trained}"):
        FCN8s(num_classes=11, weights=model, **{**options, **changes})
    model.save(tmp_path / "camvid.keras")
    with pytest.warns(UserWarning, match=f"camvid.keras {trained}"):
        FCN8s(num_classes=11, weights=tmp_path / "camvid.keras", **{**options, **changes})


@pytest.mark.any_backend
def test_no_error_asks_to_delete_the_file():
    model = FCN8s(5, fc_units=384, fc6_kernel_size=5, padding="same", input_upsampling=2)
    with pytest.raises(ValueError, match="score_fr") as error:
        load(model, "camvid", partial=False)
    assert "Delete" not in str(error.value)


@pytest.mark.any_backend
def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"must be loaded into FCN8s\. Received: FCN16s"):
        FCN16s(num_classes=11, weights="camvid")
    with pytest.raises(ValueError, match=r"fc6 must have a kernel of shape \(5, 5, 512, 384\)"):
        FCN8s(num_classes=11, weights="camvid", fc_units=16)
    backbone = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    with pytest.raises(ValueError, match=r"`weights` must keep its default with `backbone`"):
        FCN8s(num_classes=11, weights="camvid", backbone=backbone)
