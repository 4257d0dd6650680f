"""The two pictures of the start page: a street scene, and the classes that FCN-8s predicts for it.

    python docs/programs/street.py docs/pictures

The scene is a validation frame of CamVid, and the model is the one of `keras-fcn predict camvid`;
both are part of the package.
"""

import sys
from pathlib import Path

from PIL import Image

import keras_fcn
from keras_fcn.data.street_scenes import street_scenes
from keras_fcn.visualization import save_label_map

SCENE = "0016E5_07959"

folder = Path(sys.argv[1])
model = keras_fcn.FCN8s(num_classes=11, weights="camvid")
image, label_map = street_scenes()[SCENE]
predicted = keras_fcn.inference.predict_label_map(model, image)
Image.fromarray(image).save(folder / "street.jpg", quality=92, subsampling=0, optimize=True)
save_label_map(folder / "street-classes.png", predicted, model.label_space)

valid = label_map != model.label_space.ignore_class
print(f"{SCENE}: pixel accuracy {(predicted == label_map)[valid].mean():.4f}")
