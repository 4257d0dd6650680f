"""The label spaces of the named data sets, except ADE20K's long one."""

from keras_fcn.label_spaces.label_space import LabelSpace, voc_palette


def _in_voc_colours(class_names):
    """Returns a label space in PASCAL VOC's colours without black, which suggests void."""
    return LabelSpace(class_names, voc_palette(len(class_names) + 1)[1:], ignore_class=255)


_VOC_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

PASCAL_VOC = LabelSpace(_VOC_NAMES, voc_palette(len(_VOC_NAMES)), ignore_class=255)
"""PASCAL VOC: background and 20 classes; 255 marks the border of the objects."""

_CAMVID_COLOURS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

CAMVID = LabelSpace(tuple(_CAMVID_COLOURS), tuple(_CAMVID_COLOURS.values()), ignore_class=11)
"""CamVid's 11 classes in the order of SegNet's copy of the data; 11 is void."""

_PASCAL_CONTEXT_NAMES = (
    *_VOC_NAMES,
    "bag",
    "bed",
    "bench",
    "book",
    "building",
    "cabinet",
    "ceiling",
    "clothes",
    "computer",
    "cup",
    "door",
    "fence",
    "floor",
    "flower",
    "food",
    "grass",
    "ground",
    "keyboard",
    "light",
    "mountain",
    "mouse",
    "curtain",
    "platform",
    "sign",
    "plate",
    "road",
    "rock",
    "shelves",
    "sidewalk",
    "sky",
    "snow",
    "bedcloth",
    "track",
    "tree",
    "truck",
    "wall",
    "water",
    "window",
    "wood",
)

PASCAL_CONTEXT = LabelSpace(
    _PASCAL_CONTEXT_NAMES, voc_palette(len(_PASCAL_CONTEXT_NAMES)), ignore_class=255
)
"""PASCAL-Context's 59 most frequent classes as 1 to 59, all others as 0; 255 does not occur."""

_NYUDV2_NAMES = (
    "wall",
    "floor",
    "cabinet",
    "bed",
    "chair",
    "sofa",
    "table",
    "door",
    "window",
    "bookshelf",
    "picture",
    "counter",
    "blinds",
    "desk",
    "shelves",
    "curtain",
    "dresser",
    "pillow",
    "mirror",
    "floor mat",
    "clothes",
    "ceiling",
    "books",
    "refridgerator",
    "television",
    "paper",
    "towel",
    "shower curtain",
    "box",
    "whiteboard",
    "person",
    "night stand",
    "toilet",
    "sink",
    "lamp",
    "bathtub",
    "bag",
    "otherstructure",
    "otherfurniture",
    "otherprop",
)

NYUDV2_40 = _in_voc_colours(_NYUDV2_NAMES)
"""NYUDv2's 40 classes, of which 3 collect other objects; 255 is void."""

_SIFT_FLOW_NAMES = (
    "awning",
    "balcony",
    "bird",
    "boat",
    "bridge",
    "building",
    "bus",
    "car",
    "cow",
    "crosswalk",
    "desert",
    "door",
    "fence",
    "field",
    "grass",
    "moon",
    "mountain",
    "person",
    "plant",
    "pole",
    "river",
    "road",
    "rock",
    "sand",
    "sea",
    "sidewalk",
    "sign",
    "sky",
    "staircase",
    "streetlight",
    "sun",
    "tree",
    "window",
)

SIFT_FLOW = _in_voc_colours(_SIFT_FLOW_NAMES)
"""SIFT Flow's 33 semantic classes; 255 is void. The test images show no cow, desert or moon."""

SIFT_FLOW_GEOMETRIC = _in_voc_colours(("sky", "horizontal", "vertical"))
"""SIFT Flow's 3 geometric classes; 255 is void."""

_CITYSCAPES_COLOURS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

CITYSCAPES = LabelSpace(
    tuple(_CITYSCAPES_COLOURS), tuple(_CITYSCAPES_COLOURS.values()), ignore_class=255
)
"""The 19 classes of the Cityscapes benchmark, its `trainId`; 255 is everything else."""

OXFORD_IIIT_PET = LabelSpace(
    ("pet", "background", "border"),
    ((128, 0, 0), (0, 0, 0), (224, 224, 192)),
    ignore_class=255,
)
"""Oxford-IIIT Pet's trimaps, whose 1, 2, 3 are 0, 1, 2 here; 255 does not occur.

The annotators left the border unclassified. Here it is a class, as in most work on these data;
`dataclasses.replace(OXFORD_IIIT_PET, ignore_class=2)` ignores it.
"""
