"""Throughput of the training pipeline in images per second, and of the training that consumes it.

Reads the images of two folders from disk, decodes, scales, crops to 352x480 and flips them, in
batches of 4; then trains FCN-8s on batches of that size. Each part runs in a separate process, so
that its memory can be measured. With `--processes N` it only reads, in N parallel processes, each
one shard.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import resource
import statistics
import time

CROP, BATCH_SIZE = (352, 480), 4
EPOCHS, STEPS = 4, 4


def pipeline(options, shard=(0, 1), barrier=None):
    """Returns images per second of each epoch except the first, and the peak memory in MiB.

    Processes that read different shards synchronize at `barrier` before every epoch.
    """
    from keras_fcn.data import find_pairs, training_batches
    from keras_fcn.data.transforms import random_crop, random_flip, random_scale

    pairs = find_pairs(options.images, options.labels)
    batches = training_batches(
        pairs,
        num_classes=options.num_classes,
        ignore_class=options.ignore_class,
        batch_size=BATCH_SIZE,
        seed=0,
        shard=shard,
        transforms=(random_scale(0.75, 1.5), random_crop(*CROP, options.ignore_class), random_flip),
    )
    rates = []
    for _ in range(EPOCHS):
        if barrier is not None:
            barrier.wait()
        started = time.perf_counter()
        images = sum(int(image.shape[0]) for image, _ in batches)
        rates.append(images / (time.perf_counter() - started))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"images_per_second": rates[1:], "peak_mib": peak}


def training(options):
    """Returns images per second of each training step of FCN-8s except the first."""
    import keras
    import numpy as np

    from keras_fcn import FCN8s

    model = FCN8s(
        options.num_classes,
        padding="same",
        fc_units=options.fc_units,
        dtype=options.precision,
        data_format="channels_last",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-4), loss)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (BATCH_SIZE, *CROP, 3)).astype("float32")
    label_map = generator.integers(0, options.num_classes, (BATCH_SIZE, *CROP))
    rates = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        model.train_on_batch(image, label_map)
        rates.append(BATCH_SIZE / (time.perf_counter() - started))
    return {"images_per_second": rates[1:]}


def main():
    """Prints both throughputs, their ratio, and the pipeline's peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--ignore-class", type=int, required=True)
    parser.add_argument("--fc-units", type=int, default=1024)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument(
        "--processes", type=int, default=None, help="only read, in this many parallel processes"
    )
    parser.add_argument("--json", action="store_true", help="print every measurement")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.processes is not None:
        print_processes(options)
        return
    results = {part.__name__: in_own_process(part, options) for part in (pipeline, training)}
    if options.json:
        print(json.dumps(results, indent=2))
        return
    medians = {}
    for name, result in results.items():
        rates = result["images_per_second"]
        medians[name] = statistics.median(rates)
        print(f"{name:<9} {medians[name]:8.2f} images/s ({min(rates):.2f} to {max(rates):.2f})")
    print(f"ratio     {medians['pipeline'] / medians['training']:8.1f}")
    print(f"memory    {results['pipeline']['peak_mib']:8.0f} MiB, peak of the pipeline's process")


def print_processes(options):
    """Prints the images per second of each of several processes, and their sum."""
    world_size = options.processes
    context = multiprocessing.get_context("spawn")
    with (
        context.Manager() as manager,
        concurrent.futures.ProcessPoolExecutor(world_size, mp_context=context) as processes,
    ):
        # A timeout breaks the barrier if a process has failed.
        barrier = manager.Barrier(world_size, timeout=600)
        parts = [
            processes.submit(pipeline, options, (rank, world_size), barrier)
            for rank in range(world_size)
        ]
        results = [part.result() for part in parts]
    if options.json:
        print(json.dumps(results, indent=2))
        return
    medians = []
    for rank, result in enumerate(results):
        rates = result["images_per_second"]
        medians.append(statistics.median(rates))
        print(
            f"process {rank} {medians[-1]:8.2f} images/s ({min(rates):.2f} to {max(rates):.2f}), "
            f"peak {result['peak_mib']:.0f} MiB"
        )
    print(f"sum       {sum(medians):8.2f} images/s")


def in_own_process(function, options):
    """Runs the function in a separate process and returns its result."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, options).result()


if __name__ == "__main__":
    main()
