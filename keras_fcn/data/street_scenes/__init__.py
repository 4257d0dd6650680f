"""Three street scenes with their label maps, to try a model without a download."""

from pathlib import Path

import numpy as np

from keras_fcn.data.image_files import read_image
from keras_fcn.data.label_map_files import read_label_map

_FOLDER = Path(__file__).parent
_NAMES = ("0016E5_07959", "0016E5_08059", "0016E5_08159")


def street_scenes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the first, the middle and the last of CamVid's 101 validation frames.

    The label space is `keras_fcn.label_spaces.CAMVID`. The files are PNGs of 480x360 pixels in the
    folder of this module.

    Returns:
        Dictionary from the name of a frame to its image (360, 480, 3), RGB, uint8, and its label
        map (360, 480), int32.

    References:
        - [Brostow et al., 2009](http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/)
    """
    return {
        name: (
            read_image(_FOLDER / f"{name}.png"),
            read_label_map(_FOLDER / f"{name}.labels.png"),
        )
        for name in _NAMES
    }
