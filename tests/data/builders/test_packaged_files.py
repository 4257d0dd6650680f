"""What comes with the builders: lists of images, descriptions and citations."""

from pathlib import Path

import pytest
from data.builders.modules import module_of

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("data_set", "file", "count"),
    [
        ("voc_segmentation", "seg11valid.txt", 736),
        ("nyudv2", "train.txt", 381),
        ("nyudv2", "val.txt", 414),
        ("nyudv2", "test.txt", 654),
        ("sift_flow", "trainval.txt", 2486),
        ("sift_flow", "test.txt", 200),
    ],
)
def test_lists_have_the_published_number_of_names(data_set, file, count):
    names = Path(module_of(data_set).__file__).with_name(file).read_text().split()
    assert len(set(names)) == len(names) == count


@pytest.mark.parametrize(
    ("data_set", "archives"),
    [
        ("voc_segmentation", ("VOC_2011", "VOC_2012", "SBD")),
        ("camvid", ("ARCHIVE",)),
        ("pascal_context", ("VOC_2010", "CONTEXT")),
        ("nyudv2", ("ARCHIVE",)),
        ("sift_flow", ("ARCHIVE",)),
    ],
)
def test_builders_are_described_cited_and_tagged(data_set, archives, tmp_path):
    module = module_of(data_set)
    info = module.Builder(data_dir=tmp_path).info
    assert len(info.description) > 200
    assert info.citation.startswith("@")
    for name in archives:
        assert getattr(module, name).name in module.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS
