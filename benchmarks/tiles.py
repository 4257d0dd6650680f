"""Time and peak memory of a prediction in tiles, compared with that of whole images.

    python -m benchmarks.tiles --backend tensorflow --side 10000 --tile 1536
    python -m benchmarks.tiles --backend jax --side 1024

FCN-8s with VGG-16's filters and 4096 units, random weights, in a process of its own. With `--tile`,
it reads a GeoTIFF of `--side` x `--side` pixels and writes one; without, it predicts one image
of that size twice, and the second prediction counts. `--whole-network` computes every window with
the whole network instead of stage by stage. Memory is the peak of resident memory, VmHWM.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

GIB = 2**30
NUM_CLASSES = 21
_BLOCK = 512


def write_image(path: Path, side: int) -> None:
    """Writes a tiled GeoTIFF of random patches of 16 x 16 pixels, one row of blocks at a time."""
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32633", "transform": from_origin(5e5, 4.6e6, 0.5, 0.5)}
    profile |= {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "photometric": "RGB"}
    with rasterio.open(path, "w", **profile) as file:
        for start in range(0, side, _BLOCK):
            rows = min(_BLOCK, side - start)
            patches = rng.integers(0, 256, (3, _BLOCK // 16, math.ceil(side / 16)), "uint8")
            pixels = patches.repeat(16, axis=1).repeat(16, axis=2)[:, :rows, :side]
            file.write(pixels, window=((start, start + rows), (0, side)))


def predict(folder: Path, options: argparse.Namespace) -> dict:
    """Predicts in this process; returns seconds, the windows of the trunk, and memory in bytes."""
    import keras_fcn
    from benchmarks.devices import peak
    from keras_fcn.inference import predict_label_map, predict_tiles, tiles
    from keras_fcn.inference.windows import read_geometry
    from keras_fcn.models.split import split

    side, tile, padding = options.side, options.tile, options.padding

    model = keras_fcn.FCN8s(NUM_CLASSES, padding=padding)
    before = peak(os.environ["KERAS_BACKEND"])
    if tile is None:
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), "uint8")
        predict_label_map(model, image)
        begun = time.perf_counter()
        predict_label_map(model, image)
        count, window = 1, (side, side)
    else:

        def show(done, total):
            print(f"{done}/{total}", f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)

        if options.whole_network:
            tiles.split = lambda model: None
        network = model if options.whole_network else split(model).trunk
        parts = read_geometry(network, (side, side))[0].windows(tile)
        count, window = len(parts), (parts[0].rows.stop, parts[0].columns.stop)
        begun = time.perf_counter()
        predict_tiles(
            model, folder / "image.tif", folder / "label_map.tif", tile=tile, progress=show
        )
    seconds = time.perf_counter() - begun
    memory = peak(os.environ["KERAS_BACKEND"])
    return {
        "seconds": seconds,
        "windows": count,
        "window": window,
        "before": before,
        "peak": memory,
    }


def row(backend: str, side: int, found: dict) -> str:
    """Returns one line of the results."""
    megapixels = side * side / 1e6
    computed = found["windows"] * math.prod(found["window"]) / 1e6
    height, width = found["window"]
    return (
        f"{backend}: {side}x{side} in {found['windows']} window(s) of {height}x{width} "
        f"({computed / megapixels:.2f} times the pixels), {found['seconds']:.0f} s, "
        f"{found['seconds'] / megapixels:.2f} s per megapixel, peak {found['peak'] / GIB:.2f} GiB, "
        f"{found['before'] / GIB:.2f} GiB before"
    )


def main() -> None:
    """Starts the process that predicts, or is it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--side", type=int, default=3000, help="pixels; default: %(default)s")
    parser.add_argument("--tile", type=int, help="largest side of a window; whole by default")
    parser.add_argument("--whole-network", action="store_true", help="not stage by stage")
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        found = predict(Path(options.folder), options)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.tile:
            write_image(Path(folder, "image.tif"), options.side)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.tiles", *sys.argv[1:], "--folder", folder],
            env={**os.environ, "KERAS_BACKEND": options.backend, "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    print(row(options.backend, options.side, json.loads(done.stdout.splitlines()[-1])))


if __name__ == "__main__":
    main()
