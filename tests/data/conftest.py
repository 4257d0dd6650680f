import keras
import numpy as np
import pytest
from data.numbered_pairs import HEIGHT, WIDTH, epoch, make_pairs, to_pairs, train
from PIL import Image

from keras_fcn.data.loading import from_pairs


@pytest.fixture(params=[to_pairs, from_pairs], ids=["pairs", "dataset"])
def source(request):
    """Both kinds of examples that batches are made of."""
    return request.param


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"), 30)


@pytest.fixture(scope="module")
def unbroken(pairs):
    """The first three epochs of `train`, of both kinds of examples."""
    keras.utils.set_random_seed(1)
    runs = {}
    for source in (to_pairs, from_pairs):
        dataset = train(source(pairs))
        runs[source] = [epoch(dataset) for _ in range(3)]
    return runs


@pytest.fixture(scope="module")
def mixed_pairs(tmp_path_factory):
    """Pairs whose height and width grow, from 6x8 on."""
    folder = tmp_path_factory.mktemp("mixed")
    return make_pairs(folder, 5, lambda index: (HEIGHT + index, WIDTH + 2 * index))


@pytest.fixture
def broken(tmp_path):
    """Six pairs: the image of 1 is cut off, 3 is gone, and 4 has a wrong label."""
    pairs = make_pairs(tmp_path, 6)
    pairs[1].image.write_bytes(pairs[1].image.read_bytes()[:60])
    pairs[3].label_map.unlink()
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, "uint8")).save(pairs[4].label_map)
    return pairs
