"""Faults of the import of what labelling tools write."""

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "the largest instance is on top",
        "data/formats/coco.py",
        "drawn.sort(key=lambda pair: -regions.area(pair[1]))",
        "drawn.sort(key=lambda pair: regions.area(pair[1]))",
        "data/formats/test_coco.py",
    ),
    Mutant(
        "compressed run lengths may be longer than the image",
        "data/formats/regions.py",
        "if not isinstance(counts, str | bytes) or _pixels(counts) != size[0] * size[1]:",
        "if not isinstance(counts, str | bytes):",
        "data/formats/test_coco.py",
    ),
    Mutant(
        "names of files may lead out of their folder",
        "data/formats/source.py",
        'leads_out = (\n        ".." in parts or ',
        "leads_out = (\n        ",
        "data/formats/test_writer.py",
    ),
    Mutant(
        "labels are turned the other way than their image",
        "data/formats/orientation.py",
        "6: lambda label_map: np.rot90(label_map, -1),",
        "6: lambda label_map: np.rot90(label_map, 1),",
        "data/formats/test_writer.py",
    ),
    Mutant(
        "a pair without its label map counts as complete",
        "data/formats/writer.py",
        "if label_path.exists() and image_path.is_file():",
        "if image_path.is_file():",
        "data/formats/test_writer.py",
    ),
    Mutant(
        "labels that changed are not noticed",
        "data/formats/writer.py",
        'checksum.update(f"\\0{status.st_size}\\0{status.st_mtime_ns}\\n".encode())',
        'checksum.update(b"")',
        "data/formats/test_writer.py",
    ),
    Mutant(
        "colour as a brush stroke",
        "data/formats/brush.py",
        "return values.reshape(height, width, 4)[..., 3] > 0",
        "return values.reshape(height, width, 4)[..., 0] > 0",
        "data/formats/test_label_studio.py",
    ),
    Mutant(
        "run lengths along the rows",
        "data/formats/rle_csv.py",
        "return columns.reshape(width, height).T",
        "return columns.reshape(height, width)",
        "data/formats/test_rle_csv.py",
    ),
    Mutant(
        "indices of CVAT's palette files as class ids",
        "data/formats/pixels.py",
        'palette = image.getpalette("RGB") if image.mode == "P" else None',
        'palette = sum(map(list, colours), []) if image.mode == "P" else None',
        "data/formats/test_voc.py",
    ),
    Mutant(
        "a shape of labelme is drawn under the earlier ones",
        "data/formats/labelme.py",
        'label_map[region] = class_ids[shape["label"]]',
        'label_map[region & (label_map == 0)] = class_ids[shape["label"]]',
        "data/formats/test_labelme.py",
    ),
)
