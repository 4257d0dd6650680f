import io
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from keras_fcn.data.near_duplicates import (
    MAX_DISTANCE,
    HashedImage,
    difference_hash,
    near_duplicates,
    near_pairs,
)

pytestmark = pytest.mark.any_backend


def scene(seed, size=(90, 120)):
    """Rectangles of many sizes and colours."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), rng.integers(0, 256, 3), "uint8")
    for _ in range(40):
        top, left = (rng.integers(0, 0.9 * length) for length in size)
        height, width = rng.integers(6, 40, 2)
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return image


def hashed(name, image):
    return HashedImage(name, image.tobytes(), difference_hash(image))


def re_encoded(image):
    """Larger, brighter, and through JPEG."""
    picture = Image.fromarray(image).resize((168, 126), Image.Resampling.BICUBIC)
    picture = ImageEnhance.Brightness(picture).enhance(1.15)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return np.array(Image.open(file))


class TestDifferenceHash:
    def test_bits_are_those_of_a_hash_by_hand(self):
        # 72 x 72 pixels are reduced to 8 rows of 9 pixels of 9 x 8 pixels each, and to 9 rows of 8.
        # Each column of 8 pixels is brighter than the one before up to the fifth, darker after it,
        # and each row is darker than the one above.
        of_column = np.repeat([10, 20, 30, 40, 50, 40, 30, 20, 10], 8)
        of_row = np.repeat([90, 80, 70, 60, 50, 40, 30, 20, 10], 8)
        grey = (of_row[:, None] + of_column[None]).astype("uint8")
        bits = difference_hash(np.repeat(grey[:, :, None], 3, axis=2))
        assert bits.reshape(2, -1).shape == (2, 64)
        assert bits[:64].reshape(8, 8).tolist() == [[True] * 4 + [False] * 4] * 8
        assert not bits[64:].any()

    def test_images_of_one_colour_have_none(self):
        assert difference_hash(np.full((40, 40, 3), 77, "uint8")) is None

    def test_any_number_of_channels(self):
        four = np.repeat(scene(0)[:, :, :1], 4, axis=2)
        assert (difference_hash(four) == difference_hash(four[:, :, :1])).all()


class TestNearPairs:
    def test_pairs_and_distances_are_those_of_counting(self):
        rng = np.random.default_rng(0)
        hashes, others = rng.random((1500, 128)) < 0.5, rng.random((40, 128)) < 0.5
        others[7] = hashes[1200] ^ (np.arange(128) < 14)
        others[8] = hashes[1200] ^ (np.arange(128) < 15)
        one, other, distance = near_pairs(hashes, others, max_distance=14)
        assert (one.tolist(), other.tolist(), distance.tolist()) == ([1200], [7], [14])

    def test_many_images_take_seconds(self):
        rng = np.random.default_rng(0)
        hashes, others = (rng.random((4000, 128)) < 0.5 for _ in range(2))
        start = time.process_time()
        assert len(near_pairs(hashes, others)[0]) == 0
        assert time.process_time() - start < 10

    def test_no_images_have_no_pairs(self):
        nothing = np.zeros((0, 128), bool)
        assert [len(part) for part in near_pairs(nothing, nothing)] == [0, 0, 0]


class TestNearDuplicates:
    def test_changed_copies_are_found_and_other_scenes_are_not(self):
        train = [hashed(f"t{seed}", scene(seed)) for seed in range(30)]
        val = [hashed(f"v{seed}", scene(seed)) for seed in range(100, 120)]
        assert list(near_duplicates({"train": train, "val": val})) == []
        copies = [hashed(f"copy{seed}", re_encoded(scene(seed))) for seed in range(5)]
        (problem,) = near_duplicates({"train": train, "val": [*val, *copies]})
        assert problem.kind == "near-duplicate"
        assert problem.severity == "error"
        assert problem.message.startswith("5 images of train and 5 of val are nearly the same")
        assert len(problem.files) == 6  # Three of the five pairs, which the message names.
        assert [path[1:] for path in problem.files[::2]] == [p[4:] for p in problem.files[1::2]]
        assert all(path in problem.message for path in problem.files)

    def test_each_two_splits_are_compared_but_not_a_split_with_itself(self):
        image = scene(0)
        splits = {"train": [hashed("a", image), hashed("b", re_encoded(image))]}
        assert list(near_duplicates(splits)) == []
        splits |= {"test": [], "val": [hashed("c", re_encoded(image)[1:])]}
        (problem,) = near_duplicates(splits)
        assert problem.message.startswith("2 images of train and 1 of val")
        assert len(problem.files) == 2  # The image c is named once.

    def test_equal_images_do_not_count(self):
        splits = {"train": [hashed("a", scene(0))], "val": [hashed("b", scene(0))]}
        assert list(near_duplicates(splits)) == []

    def test_images_of_one_colour_are_not_alike(self):
        flat = [hashed(str(v), np.full((20, 20, 3), v, "uint8")) for v in (10, 20)]
        assert list(near_duplicates({"train": flat[:1], "val": flat[1:]})) == []

    def test_frames_of_one_video_are_near_and_streets_are_not(self, shared):
        def bits(split, name):
            with Image.open(shared / "camvid" / split / f"{name}.png") as image:
                return difference_hash(np.asarray(image.convert("RGB")))

        def distance(one, other):
            return np.count_nonzero(one != other)

        frame = bits("val", "0016E5_07959")
        assert distance(frame, bits("val", "0016E5_07961")) <= MAX_DISTANCE
        for other in ("0001TP_006690", "0006R0_f00930", "0016E5_00390"):
            assert distance(frame, bits("train", other)) > 2 * MAX_DISTANCE
