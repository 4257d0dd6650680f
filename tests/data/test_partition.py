import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from keras_fcn.data.files import Pair
from keras_fcn.data.partition import count_pixels, groups_of, partition, series_of
from keras_fcn.label_spaces import generic

pytestmark = pytest.mark.any_backend

# Pixels of two classes in the frames of three videos; the last alone shows much of class 1.
COUNTS = np.array([[100, 0], [100, 0], [98, 2], [98, 2], [50, 50], [50, 50]])
VIDEOS = ["a", "a", "b", "b", "c", "c"]


def deviation(counts, parts):
    """Of each part's share of the classes from an equal share; 0 is the best."""
    shares = np.array([counts[part].sum(0) / counts.sum(0) for part in parts])
    return np.abs(shares - 1 / len(parts)).mean()


class TestPartition:
    def test_a_case_by_hand(self):
        # c holds 100 of 104 pixels of class 1 and goes first, to the part that may hold more of it.
        # a deviates less in the other part. b alone is left with class 1, which that part lacks.
        assert partition(COUNTS, VIDEOS, [0.4, 0.6]) == [[0, 1, 2, 3], [4, 5]]

    def test_groups_stay_whole_and_every_image_is_in_one_part(self):
        parts = partition(COUNTS, VIDEOS, [1 / 3] * 3)
        assert sorted(map(tuple, parts)) == [(0, 1), (2, 3), (4, 5)]

    def test_a_rare_class_is_in_both_parts(self):
        counts = np.array([[100, 0]] * 18 + [[90, 10]] * 2)
        names = [f"{number:02d}" for number in range(20)]
        train, validation = partition(counts, names, [0.8, 0.2])
        assert len(validation) == 4
        assert counts[train][:, 1].sum() == 10

    def test_the_order_of_the_images_does_not_matter(self):
        rng = np.random.default_rng(0)
        counts = rng.integers(0, 50, (30, 4))
        names = [f"{number:02d}" for number in range(30)]
        order = rng.permutation(30)
        parts = partition(counts, names, [0.7, 0.3])
        shuffled = partition(counts[order], [names[place] for place in order], [0.7, 0.3])
        assert [sorted(order[part].tolist()) for part in shuffled] == parts

    def test_classes_are_balanced_at_least_as_well_as_by_scikit_learn(self):
        """Whose classes are one per image: that of the rarest class that the image shows."""
        rng = np.random.default_rng(1)
        counts = rng.poisson(rng.gamma(0.5, [2000, 200, 20, 2, 1], (60, 5)))
        groups = [f"video {number // 3}" for number in range(60)]
        label = [int(np.nonzero(row)[0].max(initial=0)) for row in counts]
        folds = StratifiedGroupKFold(5).split(np.zeros(60), label, groups)
        ours = partition(counts, groups, [0.2] * 5)
        assert deviation(counts, ours) < deviation(counts, [fold for _, fold in folds])
        assert deviation(counts, ours) < 0.1

    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=50, deadline=None)
    def test_no_part_is_empty_and_no_group_is_divided(self, data):
        num_images = data.draw(st.integers(2, 12))
        groups = data.draw(
            st.lists(st.sampled_from("abcdef"), min_size=num_images, max_size=num_images)
        )
        rows = st.lists(st.integers(0, 10**9), min_size=2, max_size=2)
        counts = data.draw(st.lists(rows, min_size=num_images, max_size=num_images))
        num_parts = data.draw(st.integers(2, 4))
        hypothesis.assume(len(set(groups)) >= num_parts)
        parts = partition(np.array(counts), groups, [1 / num_parts] * num_parts)
        assert sorted(number for part in parts for number in part) == list(range(num_images))
        owners = [{groups[number] for number in part} for part in parts]
        assert all(owners)
        assert sum(map(len, owners)) == len(set(groups))

    def test_too_few_groups(self):
        with pytest.raises(ValueError, match=r"At least 4 groups .* Received: 3, a, b, c\."):
            partition(COUNTS, VIDEOS, [0.25] * 4)


class TestGroups:
    def test_a_pattern_without_group_is_taken_whole(self):
        assert groups_of(["oslo/a1", "oslo/b1", "rome/a1"], r"^\w+") == ["oslo", "oslo", "rome"]

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [("(", "must be a regular expression"), ("^b", "does not match a1")],
    )
    def test_a_pattern_that_cannot_be_used(self, pattern, message):
        with pytest.raises(ValueError, match=message):
            groups_of(["b1", "a1"], pattern)

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["0016E5_07959", "0016E5_07961", "Seq05VD_f00", "Seq05VD_f30"], True),
            (["image1", "image2", "image3", "image4"], False),
            (["cat", "dog", "street7", "house9"], False),
        ],
    )
    def test_series_of_frames_are_told_from_plain_numbers(self, names, expected):
        assert (series_of(names) is not None) == expected


def test_pixels_of_each_class_without_the_ignored(tmp_path):
    Image.fromarray(np.array([[0, 0, 1], [2, 255, 1]], "uint8")).save(tmp_path / "a.png")
    pair = Pair(tmp_path / "a.jpg", tmp_path / "a.png")
    assert count_pixels([pair], generic(4, ignore_class=255)).tolist() == [[2, 2, 1, 0]]
    with pytest.raises(ValueError, match="255"):
        count_pixels([pair], generic(4))
