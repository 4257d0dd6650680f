"""Small faults in the package, one at a time, and which tests find them.

    python -m tests.mutants                      # every fault, against the default tests
    python -m tests.mutants --gate               # what these miss against all tests of the gate
    python -m tests.mutants --only crop border   # those with one of these words in their name

Each fault is a line of the package that reads otherwise, in a copy of the checkout. First come the
tests of its own module, then all others of the default run (`pytest`), with `--gate` then those
that the gate adds, on the fault's own backend. Exits with 1 if a fault is found by none of them.
A new feature brings its own faults: a test checks that each still is in the code.
"""

import argparse
import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("keras_fcn", "tests", "docs", "benchmarks", "pyproject.toml", "README.md", "mkdocs.yml")
# This file's own test would find them all.
LEFT_OUT = ("__pycache__", "test_mutants.py")
GATE = "not slow and not browser"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A fault: `old` occurs once in `file` of the package and becomes `new`.

    `tests` are the files that should find it, which run first.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    backend: str = "tensorflow"


MUTANTS = (
    # Alignment and layers
    Mutant(
        "crop offsets are one pixel too large",
        "alignment/maps.py",
        "return (*offsets, -crop_offset(logits, IMAGE))",
        "return (*offsets, 1 - crop_offset(logits, IMAGE))",
        "test_alignment.py",
    ),
    Mutant(
        "a skip's crop is one pixel too large",
        "alignment/maps.py",
        "        offsets.append(offset)",
        "        offsets.append(offset + 1)",
        "test_alignment.py",
    ),
    Mutant(
        "the crop begins a column late",
        "layers/crop_to_reference.py",
        "columns = slice(self.offset, self.offset + width)",
        "columns = slice(self.offset + 1, self.offset + 1 + width)",
        "layers/test_crop_to_reference.py",
    ),
    Mutant(
        "the crop takes the reference's height for both sides",
        "layers/crop_to_reference.py",
        "columns = slice(self.offset, self.offset + width)",
        "columns = slice(self.offset, self.offset + height)",
        "layers/test_crop_to_reference.py",
    ),
    Mutant(
        "the bilinear kernel's centre is half a pixel off",
        "layers/bilinear.py",
        "centre = factor - 1 if size % 2 else factor - 0.5",
        "centre = factor - 1",
        "layers/test_bilinear.py",
    ),
    Mutant(
        "the bilinear kernel mixes all classes",
        "layers/bilinear.py",
        "kernel[:, :, diagonal, diagonal] = _bilinear_weights(height)[:, :, None]",
        "kernel[:] = _bilinear_weights(height)[:, :, None, None]",
        "layers/test_bilinear.py",
    ),
    Mutant(
        "pools round down",
        "models/vgg16.py",
        'pool = VGGMaxPooling2D(2, padding="same"',
        'pool = VGGMaxPooling2D(2, padding="valid"',
        "models/test_fcn_reference.py models/test_fcn.py",
    ),
    Mutant(
        "blocks ignore `filters`",
        "models/vgg16.py",
        "sizes = zip(filters, VGG16_CONVOLUTIONS, strict=True)",
        "sizes = zip(VGG16_FILTERS, VGG16_CONVOLUTIONS, strict=True)",
        "models/test_fcn.py",
    ),
    Mutant(
        "the border is one pixel short",
        "models/vgg16.py",
        "margin = 2 * convolutions + 1",
        "margin = 2 * convolutions - 1",
        "models/test_fcn_reference.py",
    ),
    Mutant(
        "the image's reach into the border is one convolution short",
        "models/vgg16.py",
        "reach += convolutions * stride",
        "reach += (convolutions - 1) * stride",
        "models/test_fcn_reference.py",
    ),
    Mutant(
        "the empty border forgets how the lower edge rounds",
        "layers/empty_border.py",
        "shape[axis] = self.size + (shape[axis] + 2 * self.input_padding) % self.stride",
        "shape[axis] = self.size + 0 * (shape[axis] + 2 * self.input_padding)",
        "models/test_fcn_reference.py",
    ),
    Mutant(
        "the border's lower edge is that of its middle",
        "layers/surround.py",
        "index - (length - border_size + middle), 0",
        "index - (length - border_size + middle) - 1, 0",
        "layers/test_surround.py",
    ),
    Mutant(
        "RGB instead of BGR",
        "layers/vgg_preprocessing.py",
        "if len(self.mean) == 3 and self.reverse_channels:",
        "if False:",
        "layers/test_vgg_preprocessing.py",
    ),
    Mutant(
        "a first kernel for more channels is not rescaled",
        "weights/channels.py",
        "% known] * (known / channels)",
        "% known]",
        "models/test_backbone.py weights/test_load.py",
    ),
    Mutant(
        "a first kernel takes other channels in the order of Caffe",
        "weights/load.py",
        "kernel_for_channels(array[:, :, order], channels)",
        "kernel_for_channels(array, channels)",
        "weights/test_load.py",
    ),
    Mutant(
        "constants of normalization keep three channels",
        "models/channels.py",
        "isinstance(layer, (layers.Normalization, layers.Rescaling))",
        "isinstance(layer, layers.Rescaling)",
        "models/test_backbone.py",
    ),
    Mutant(
        "classes are imported while the packages that they need are not complete",
        "_registration.py",
        "or begun - self._complete:",
        "or False:",
        "test_registration.py",
        "jax",
    ),
    Mutant(
        "AlexNet's pools round down",
        "models/alexnet.py",
        "ZeroPadding2D(((0, 1), (0, 1)), name",
        "ZeroPadding2D(((0, 0), (0, 0)), name",
        "models/test_reference_networks.py",
    ),
    Mutant(
        "AlexNet's conv4 has one group",
        "models/alexnet.py",
        'x = convolution(x, 4, 3, "same", groups=2)',
        'x = convolution(x, 4, 3, "same")',
        "models/test_reference_networks.py",
    ),
    Mutant(
        "local response normalization forgets its size",
        "layers/local_response_normalization.py",
        "self.alpha / self.size * total",
        "self.alpha * total",
        "models/test_reference_networks.py test_docstrings.py",
    ),
    Mutant(
        "HHA is taken for RGB",
        "models/multimodal.py",
        'reverse_channels=modality == "image"',
        "reverse_channels=True",
        "models/test_reference_networks.py",
    ),
    Mutant(
        "depth is taken without its logarithm",
        "models/multimodal.py",
        "ops.log(ops.maximum(image, 1.0))",
        "ops.maximum(image, 1.0)",
        "models/test_reference_networks.py",
    ),
    Mutant(
        "late fusion adds scores instead of averaging them",
        "models/multimodal.py",
        'layers.Average(name="score_fused"',
        'layers.Add(name="score_fused"',
        "models/test_reference_networks.py",
    ),
    Mutant(
        "the first kernel of depth is the sum of the colours'",
        "models/multimodal.py",
        "mean = kernel.mean(axis=2, keepdims=True)",
        "mean = kernel.sum(axis=2, keepdims=True)",
        "models/test_reference_networks.py",
    ),
    Mutant(
        "one head takes SIFT Flow's geometric classes",
        "weights/load.py",
        'layer.removesuffix("_semantic")',
        'layer.removesuffix("_geometric")',
        "models/test_reference_networks.py weights/test_published.py",
    ),
    Mutant(
        "biases of AlexNet's trunk do not decay",
        "training/objective.py",
        'if recipe.model == "fcn_alexnet":\n            multipliers',
        "if False:\n            multipliers",
        "training/test_objective.py",
    ),
    Mutant(
        "depth overflows in the channels of an image",
        "data/loading.py",
        "maps = [tf.cast(found, tf.float32) for found in maps]",
        "maps = [tf.cast(found, tf.uint8) for found in maps]",
        "training/test_modalities.py",
    ),
    Mutant(
        "the preprocessing's mean is always PASCAL VOC's",
        "layers/vgg_preprocessing.py",
        'keras.ops.convert_to_tensor(self.mean, "float32")',
        'keras.ops.convert_to_tensor(PASCAL_VOC_MEAN, "float32")',
        "layers/test_vgg_preprocessing.py",
    ),
    Mutant(
        "fc6 reads its window column by column",
        "layers/convolutionalized_dense.py",
        "[x[:, window(row), window(column), :] for row in range(size) for column in range(size)]",
        "[x[:, window(row), window(column), :] for column in range(size) for row in range(size)]",
        "layers/test_convolutionalized_dense.py",
    ),
    Mutant(
        "padding='paper' pads by 99 in all",
        "models/config.py",
        "return 99 + 16 * max(0, fc6_kernel_size - 7), 0",
        "return 98 + 16 * max(0, fc6_kernel_size - 7), 0",
        "models/test_fcn_reference.py",
    ),
    Mutant(
        "the skips' factors are exchanged",
        "models/features.py",
        'for pool, scale in zip(pools, config["skip_scales"], strict=False):',
        'for pool, scale in zip(pools, config["skip_scales"][::-1], strict=False):',
        "models/test_fcn.py models/test_fcn_reference.py",
    ),
    Mutant(
        "logits stay in half precision",
        "models/layout.py",
        'activation or "linear", dtype="float32"',
        'activation or "linear", dtype=logits.dtype',
        "models/test_fcn.py",
    ),
    Mutant(
        "the saved configuration forgets gradient checkpointing",
        "models/fcn.py",
        '"gradient_checkpointing": self.gradient_checkpointing}',
        '"gradient_checkpointing": False}',
        "models/test_block_by_block.py models/test_saving.py",
    ),
    Mutant(
        "wide convolutions drop their last part",
        "backends/tensorflow.py",
        "return functools.reduce(ops.add, (default(*pair) for pair in pairs))",
        "return functools.reduce(ops.add, (default(*pair) for pair in list(pairs)[:-1]))",
        "layers/test_vgg_conv2d.py",
    ),
    Mutant(
        "score layers start at random values",
        "models/decoder.py",
        'kernel_initializer="zeros",',
        'kernel_initializer="glorot_uniform",',
        "models/test_fcn.py",
    ),
    Mutant(
        "a coarser head has the crop of a finer one",
        "models/deep_supervision.py",
        "*_, crop_offset = fcn_crop_offsets(\n        skips,",
        "*_, crop_offset = fcn_crop_offsets(\n        fcn.skips,",
        "models/test_deep_supervision.py",
    ),
    Mutant(
        "sizes are taken for constant in `fit`",
        "backends/tensorflow_trainer.py",
        "shape[first : first + 2] = (None, None)",
        "shape[first : first + 1] = (None,)",
        "models/test_fit.py",
    ),
    # Losses and metrics
    Mutant(
        "focal loss counts ignored pixels in its mean",
        "losses.py",
        "num_pixels = backend.batch_sum(ops.sum(counted))",
        "num_pixels = backend.batch_sum(ops.sum(ops.ones_like(counted)))",
        "test_region_losses.py test_losses.py",
    ),
    Mutant(
        "Dice counts what is predicted on ignored pixels",
        "losses.py",
        "p = ops.softmax(logits, axis=-1) * weights",
        "p = ops.softmax(logits, axis=-1)",
        "test_region_losses.py test_sample_weight.py",
    ),
    Mutant(
        "Lovász sorts errors the wrong way round",
        "losses.py",
        "order = ops.argsort(-ops.stop_gradient(errors), axis=0)",
        "order = ops.argsort(ops.stop_gradient(errors), axis=0)",
        "test_region_losses.py",
    ),
    Mutant(
        "class weights are not applied",
        "losses.py",
        "pixels = -weights[:, 0] * ops.sum(truth * class_weights, axis=-1) * log_p",
        "pixels = -weights[:, 0] * ops.sum(truth, axis=-1) * log_p",
        "test_region_losses.py test_losses.py",
    ),
    Mutant(
        "a weighted sum of losses is their mean",
        "losses.py",
        "weight * ops.cast(loss(y_true, y_pred, sample_weight), self.dtype)",
        "weight / len(self.losses) * ops.cast(loss(y_true, y_pred, sample_weight), self.dtype)",
        "test_losses.py test_region_losses.py",
    ),
    Mutant(
        "the metric counts ignored pixels",
        "metrics.py",
        "ops.where(is_ignored, self._num_bins, stray),",
        "ops.where(is_ignored, 0, stray),",
        "test_metrics.py",
    ),
    Mutant(
        "the confusion matrix is transposed",
        "metrics.py",
        "ids * self.num_classes + ops.cast(predictions, backend.integer_dtype),",
        "ops.cast(predictions, backend.integer_dtype) * self.num_classes + ids,",
        "test_metrics.py",
    ),
    Mutant(
        "counts lose their carry",
        "metrics.py",
        "self._high.assign(self._high + carry)",
        "self._high.assign(self._high)",
        "test_metrics.py",
    ),
    Mutant(
        "mean IoU counts absent classes as 0",
        "metrics.py",
        "return _ratio(xp, xp.sum(scores), xp.sum(xp.where(pixels != 0, 1.0, 0.0)))",
        "return xp.sum(scores) / max(len(scores), 1)",
        "test_metrics.py",
    ),
    Mutant(
        "the boundary band is one pixel wider",
        "metrics.py",
        "after = np.take(counts, np.minimum(places + width, size), axis=axis)",
        "after = np.take(counts, np.minimum(places + width + 1, size), axis=axis)",
        "test_metrics.py",
    ),
    Mutant(
        "a label that is no class counts like an ignored one",
        "losses.py",
        "not_a_class = ops.cast(ops.where(is_ignored, 0.0, np.nan), loss.dtype)",
        "not_a_class = ops.cast(ops.where(is_ignored, 0.0, 0.0), loss.dtype)",
        "test_label_checks.py",
    ),
    Mutant(
        "a label of 0.5 is class 0",
        "label_maps.py",
        "is_class = ops.logical_and(is_class, labels == ops.floor(labels))",
        "pass",
        "test_label_checks.py",
    ),
    Mutant(
        "labels beyond 32 bits lose their upper ones",
        "label_maps.py",
        "label_map = np.minimum(label_map, np.iinfo(backend.integer_dtype).max)",
        "pass",
        "test_label_checks.py",
        backend="jax",
    ),
    Mutant(
        "losses take label maps of any shape",
        "label_maps.py",
        "if not any(_shapes_agree(label_map, shape) for shape in allowed):",
        "if not allowed:",
        "test_label_checks.py",
    ),
    Mutant(
        "the mean of focal loss divides by the weights",
        "losses.py",
        "num_pixels = backend.batch_sum(ops.sum(counted))",
        "num_pixels = backend.batch_sum(ops.sum(weights))",
        "test_sample_weight.py",
    ),
    Mutant(
        "the Lovász union counts pixels, not their weights",
        "losses.py",
        "union = size + ops.cumsum(others, axis=0)",
        "union = size + ops.cumsum(ops.sign(others), axis=0)",
        "test_sample_weight.py",
    ),
    Mutant(
        "Dice weights the prediction alone",
        "losses.py",
        "size = backend.batch_sum(ops.sum(truth * weights, axis=0))",
        "size = backend.batch_sum(ops.sum(truth, axis=0))",
        "test_sample_weight.py test_region_losses.py",
    ),
    Mutant(
        "weighted metrics lose the fractions of an update",
        "metrics.py",
        'self._fraction.assign(ops.cast(sums - whole, "float32"))',
        "pass",
        "test_sample_weight.py",
    ),
    Mutant(
        "weighted metrics count pixels",
        "metrics.py",
        "weights = ops.reshape(ops.where(is_class, weights, 1), [-1])",
        "weights = ops.reshape(ops.where(is_class, weights * 0 + 1, 1), [-1])",
        "test_sample_weight.py",
    ),
    Mutant(
        "a class that never occurs has the largest weight",
        "data/class_weights.py",
        "weights, occurs = np.zeros(len(pixels)), np.asarray(pixels) > 0",
        "weights, occurs = np.full(len(pixels), 9.0), np.asarray(pixels) > 0",
        "test_sample_weight.py data/test_check.py",
    ),
    # Weights
    Mutant(
        "random fc6 and fc7 are not told from a network of random values",
        "weights/diagnose.py",
        '    if layers["random"] and set(layers["random"]) <= {"fc6", "fc7"}:',
        "    if False:",
        "weights/test_diagnose.py",
    ),
    Mutant(
        "kernels of the paper keep rows and columns exchanged",
        "weights/paper_names.py",
        "np.ascontiguousarray(np.transpose(array, (2, 3, 1, 0)))",
        "np.ascontiguousarray(np.transpose(array, (3, 2, 1, 0)))",
        "weights/test_paper_formats.py weights/test_caffe.py",
    ),
    Mutant(
        "weights are set before all shapes agree",
        "weights/port.py",
        "    if problems:\n        problems.sort()",
        "    for key in variables.keys() & entries.keys() if problems else ():\n"
        "        if entries[key].shape == tuple(variables[key].shape):\n"
        "            variables[key].assign(entries[key].read())\n"
        "    if problems:\n        problems.sort()",
        "weights/test_load.py",
    ),
    Mutant(
        "a checksum is not compared",
        "io/download.py",
        "        if md5 != file.md5:",
        "        if False:",
        "weights/test_published.py",
    ),
    Mutant(
        "the published mean is not compared",
        "weights/metadata.py",
        "if not np.allclose(theirs, ours, atol=0.01):",
        "if not np.allclose(theirs, ours, atol=1e3):",
        "weights/test_load.py",
    ),
    Mutant(
        "Caffe's legacy shapes keep their axes of 1",
        "weights/caffe.py",
        "    if len(shape) == 4 and shape[:2] == (1, 1):",
        "    if False:",
        "weights/test_caffe.py",
    ),
    Mutant(
        "trained weights pass for random ones",
        "weights/diagnose.py",
        "_KURTOSIS_OF_INITIAL_VALUES = 2.2",
        "_KURTOSIS_OF_INITIAL_VALUES = 22.0",
        "weights/test_diagnose.py",
    ),
    # Data
    Mutant(
        "a folder that links to itself is looked into again",
        "data/files.py",
        "if (real := os.path.realpath(parent)) in seen:",
        "if (real := str(parent)) in seen:",
        "data/test_links_and_names.py",
    ),
    Mutant(
        "a link's name goes before the folder's own",
        "data/files.py",
        "heapq.heappush(waiting, (path.is_symlink(), path))",
        "heapq.heappush(waiting, (False, path))",
        "data/test_links_and_names.py",
    ),
    Mutant(
        "a name in decomposed letters is another name",
        "data/files.py",
        'found.setdefault(unicodedata.normalize("NFC", name), [])',
        "found.setdefault(name, [])",
        "data/test_links_and_names.py",
    ),
    Mutant(
        "a pair that links repeat counts twice",
        "data/files.py",
        "first.setdefault((os.path.realpath(pair.image), os.path.realpath(pair.label_map)), pair)",
        "first[pair.image] = pair",
        "data/test_links_and_names.py",
    ),
    Mutant(
        "most of the pixels may be left out unseen",
        "data/check.py",
        "    if 2 * report.ignored_pixels <= num_pixels:",
        "    if report.ignored_pixels <= num_pixels:",
        "data/test_check.py",
    ),
    Mutant(
        "a class without a pixel to learn from goes unseen",
        "data/check.py",
        "        if not to_learn[class_id]:",
        "        if False:",
        "data/test_check.py",
    ),
    Mutant(
        "a class of one split alone goes unseen",
        "data/check.py",
        "        elif len(holders) == 1 < len(pixels_of):",
        "        elif False:",
        "data/test_check.py",
    ),
    Mutant(
        "the bits of a byte are read in one order",
        "data/examples.py",
        '"L;2R": 85, ',
        "",
        "data/test_channels_and_bits.py",
    ),
    Mutant(
        "label maps whose zero is white are read inverted",
        "data/examples.py",
        "    if _INVERTED.match(raw_mode):",
        "    if False:",
        "data/test_channels_and_bits.py",
    ),
    Mutant(
        "a fourth channel is dropped without a word",
        "data/examples.py",
        'held = shown if image.format != "TIFF" else image.tag_v2.get(_SAMPLES_PER_PIXEL, shown)',
        "held = shown",
        "data/test_channels_and_bits.py",
    ),
    Mutant(
        "transparency is dropped without a word",
        "data/examples.py",
        'image.getchannel("A").getextrema()[0] < 255',
        'image.getchannel("A").getextrema()[0] < 0',
        "data/test_channels_and_bits.py",
    ),
    Mutant(
        "grey files are class ids under black and white",
        "data/examples.py",
        "    if image.mode in _GREY_MODES and palette is not None and is_grey(palette):",
        "    if False:",
        "data/test_channels_and_bits.py",
    ),
    Mutant(
        "a transform through NumPy loses its shapes",
        "data/batches.py",
        "        image = tf.ensure_shape(image, (None, None, channels))",
        "        pass",
        "data/test_links_and_names.py",
    ),
    Mutant(
        "a label space that Windows wrote is refused",
        "label_spaces/files.py",
        'encoding="utf-8-sig"',
        'encoding="utf-8"',
        "test_label_spaces.py cli/test_streams.py",
    ),
    Mutant(
        "label maps are resized bilinearly",
        "data/transforms.py",
        'label_map = tf.image.resize(label_map[..., None], size, method="nearest")[..., 0]',
        "label_map = tf.cast(tf.image.resize(label_map[..., None], size)[..., 0], label_map.dtype)",
        "data/test_transforms.py",
    ),
    Mutant(
        "new pixels of a crop are class 0",
        "data/transforms.py",
        "label_map, paddings, constant_values=tf.cast(ignore_class, label_map.dtype)",
        "label_map, paddings, constant_values=tf.cast(0, label_map.dtype)",
        "data/test_transforms.py",
    ),
    Mutant(
        "the window of a crop never reaches the last row",
        "data/transforms.py",
        "places = tf.shape(label_map) - window + 1",
        "places = tf.maximum(tf.shape(label_map) - window, 1)",
        "data/test_transforms.py",
    ),
    Mutant(
        "padding counts as class 0",
        "data/padding.py",
        "values = (image.dtype.as_numpy_dtype(0), np.int32(ignore_class))",
        "values = (image.dtype.as_numpy_dtype(0), np.int32(0))",
        "data/test_batches.py",
    ),
    Mutant(
        "two processes read the same shard",
        "data/batches.py",
        "chosen = source.shuffled(seed, epoch, shuffle_buffer).shard(world_size, rank)",
        "chosen = source.shuffled(seed, epoch, shuffle_buffer).shard(world_size, 0)",
        "data/test_batches.py data/test_shards.py",
    ),
    Mutant(
        "every epoch has the order of the first",
        "data/batches.py",
        "chosen = source.shuffled(seed, epoch, shuffle_buffer).shard(world_size, rank)",
        "chosen = source.shuffled(seed, 0 * epoch, shuffle_buffer).shard(world_size, rank)",
        "data/test_batches.py",
    ),
    Mutant(
        "every image is transformed alike",
        "data/batches.py",
        "example_seed = tf.random.fold_in(seed, index)",
        "example_seed = tf.random.fold_in(seed, 0 * index)",
        "data/test_batches.py",
    ),
    Mutant(
        "going on within an epoch begins a batch early",
        "data/batches.py",
        "chosen = chosen.skip(first_step * batch_size)",
        "chosen = chosen.skip((first_step - 1) * batch_size)",
        "data/test_batches.py",
    ),
    Mutant(
        "grey of 4 bits comes out stretched",
        "data/examples.py",
        '"L;4": 17, "L;4R": 17}',
        '"L;4R": 17}',
        "data/test_examples.py",
    ),
    Mutant(
        "images stay as the camera lay",
        "data/examples.py",
        "            ImageOps.exif_transpose(image, in_place=True)\n",
        "",
        "data/test_examples.py",
    ),
    Mutant(
        "the cache does not notice that a file has changed",
        "data/reader.py",
        "(os.path.abspath(path), status.st_size, status.st_mtime_ns)",
        "(os.path.abspath(path), 0, 0)",
        "data/test_batches.py",
    ),
    Mutant(
        "the data check counts ignored pixels as class 0",
        "data/check.py",
        "is_class = label_map != ignore_class if ignore_class is not None else slice(None)",
        "is_class = slice(None)",
        "data/test_check.py",
    ),
    Mutant(
        "PASCAL VOC's colours have red and blue exchanged",
        "label_spaces/label_space.py",
        "sum((class_id >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))",
        "sum((class_id >> (3 * bit + 2 - channel) & 1) << (7 - bit) for bit in range(8))",
        "test_label_spaces.py",
    ),
    # Use
    Mutant(
        "a closed pipe is an error",
        "cli/__init__.py",
        "            return _CLOSED_PIPE",
        "            return 1",
        "cli/test_streams.py",
    ),
    Mutant(
        "a letter that the terminal lacks ends a run",
        "cli/__init__.py",
        'stream.reconfigure(errors="backslashreplace")',
        'stream.reconfigure(errors="strict")',
        "cli/test_streams.py",
    ),
    Mutant(
        "an interrupted training does not say how to go on",
        "cli/__init__.py",
        '    return f"; resume with: keras-fcn train --resume {run}"',
        '    return ""',
        "cli/test_streams.py",
    ),
    Mutant(
        "messages name options of other commands",
        "cli/__init__.py",
        "return brackets[0] if all(",
        "return brackets[0] if any(True or ",
        "cli/test_messages.py",
    ),
    Mutant(
        "predict decodes every image twice",
        "data/examples.py",
        "            if pixels:",
        "            if True:",
        "cli/test_predict.py",
    ),
    Mutant(
        "predict finds other channels after the first output",
        "data/examples.py",
        "    if channels is not None:",
        "    if False:",
        "cli/test_predict.py",
    ),
    Mutant(
        "label maps of many classes are cut to 8 bits",
        "visualization.py",
        "    if label_space.num_classes > 256:",
        "    if label_space.num_classes > 65536:",
        "test_visualization.py",
    ),
    Mutant(
        "a confusion matrix grows without bound",
        "visualization.py",
        "    side = min(2.2 + 0.42 * len(matrix), _MOST_INCHES)",
        "    side = 2.2 + 0.42 * len(matrix)",
        "test_visualization.py",
    ),
    Mutant(
        "an overlay does not name its classes",
        "visualization.py",
        "legend(label_space, max(picture.width, 150), legend_classes)",
        "legend(label_space, max(picture.width, 150))",
        "test_visualization.py",
    ),
    Mutant(
        "mirrored predictions are not mirrored back",
        "inference/prediction.py",
        "        scores = ops.flip(scores, axis=first + 1)",
        "        scores = ops.flip(scores, axis=first)",
        "inference/test_prediction.py",
    ),
    Mutant(
        "freed memory stays when the size changes",
        "inference/prediction.py",
        'getattr(_last_shape, "value", shape) != shape',
        "False",
        "models/test_many_sizes.py",
    ),
    Mutant(
        "the memory of an enlarged view is not counted",
        "models/prediction_memory.py",
        "round(height * scale), round(width * scale)",
        "height, width",
        "models/test_prediction_memory.py",
    ),
    Mutant(
        "what a container has taken already counts as free",
        "backends/host_memory.py",
        "max(0, limit - used)",
        "limit",
        "models/test_prediction_memory.py",
    ),
    Mutant(
        "probabilities of a model around an FCN are normalized again",
        "inference/prediction.py",
        "return scores.min() < 0 or abs(scores.sum(axis=class_axis) - 1).max() > 1e-2",
        "return True",
        "inference/test_prediction.py",
    ),
    Mutant(
        "softmax leaves probabilities in a layout that PyTorch's loss does not take",
        "models/layout.py",
        'if activation == "softmax" and layout == "channels_first":',
        "if False:",
        "models/test_heads.py",
        backend="torch",
    ),
    Mutant(
        "views average logits instead of probabilities",
        "inference/prediction.py",
        "    if is_logits:",
        "    if False:",
        "inference/test_prediction.py",
    ),
    Mutant(
        "the palette of a saved label map is one index off",
        "visualization.py",
        "palette[: label_space.num_classes] = label_space.palette",
        "palette[1 : label_space.num_classes + 1] = label_space.palette",
        "test_visualization.py cli/test_train.py",
    ),
    Mutant(
        "the overlay covers pixels of no class",
        "visualization.py",
        "alpha = np.where(is_class, opacity, 0.0)[..., None]",
        "alpha = np.full(is_class.shape, opacity)[..., None]",
        "test_visualization.py",
    ),
    Mutant(
        "the at-once FCN-8s scales pool3 as pool4",
        "spec.py",
        "AT_ONCE_SKIP_SCALES = (0.01, 0.0001)",
        "AT_ONCE_SKIP_SCALES = (0.01, 0.01)",
        "models/test_fcn.py training/test_recipe.py",
    ),
    # Training
    Mutant(
        "a file's 255 passes for the padding of windows",
        "training/splits.py",
        "    space = choose(recipe.label_space, recipe.num_classes, recipe.ignore_class)",
        "    space = splits[0].label_space",
        "cli/test_train.py",
    ),
    Mutant(
        "training does not read colours as classes",
        "training/splits.py",
        "    palette = label_space.palette if recipe.palette else None",
        "    palette = None",
        "cli/test_data.py",
    ),
    Mutant(
        "the last checkpoint stays for ever",
        "training/loop.py",
        "        if not keep_state and self.run.is_finished:",
        "        if False:",
        "training/test_trainer.py",
    ),
    Mutant(
        "a run is lost for a picture",
        "training/run.py",
        "    except Exception as error:",
        "    except ZeroDivisionError as error:",
        "training/test_trainer.py",
    ),
    Mutant(
        "the validation loss is of other logits",
        "training/evaluate.py",
        "losses.append(float(loss(label_maps, logits)))",
        "losses.append(float(loss(label_maps, 2 * logits)))",
        "training/test_trainer.py",
    ),
    Mutant(
        "the time left counts the first step",
        "training/loop.py",
        "left = (time.monotonic() - since) / (done - first)",
        "left = (time.monotonic() - since) / done",
        "training/test_trainer.py",
    ),
    Mutant(
        "progress is printed among the results",
        "training/progress.py",
        "print(text, file=sys.stderr, flush=True)",
        "print(text, flush=True)",
        "cli/test_streams.py",
    ),
    Mutant(
        "biases learn as fast as kernels",
        "training/optimizer.py",
        'PAPER_MULTIPLIERS = {r"(^|/)bias$": (2.0, 0.0)}',
        'PAPER_MULTIPLIERS = {r"(^|/)bias$": (1.0, 0.0)}',
        "training/test_optimizer.py",
    ),
    Mutant(
        "weight decay goes past the momentum",
        "training/optimizer.py",
        "        self.assign_sub(variable, step)",
        "        self.assign_sub(variable, step + rate * self.decay * decay_factor * variable)",
        "training/test_optimizer.py",
    ),
    Mutant(
        "an atomic write writes in place",
        "io/atomic.py",
        "        yield temporary\n",
        "        yield path\n        temporary = path\n",
        "io/test_atomic.py training/test_run.py",
    ),
    Mutant(
        "an atomic write is not synced",
        "io/atomic.py",
        "        os.fsync(file.fileno())",
        "        pass",
        "io/test_atomic.py",
    ),
    Mutant(
        "a checkpoint with NaN is written",
        "training/checkpoint.py",
        'if value.dtype.kind == "f" and not np.isfinite(value).all():',
        "if False:",
        "training/test_trainer.py",
    ),
    Mutant(
        "the moving average begins at zero",
        "training/moving_average.py",
        "decay = self._decay if int(self._num_updates) else 0.0",
        "decay = self._decay",
        "training/test_moving_average.py",
    ),
    Mutant(
        "the moving average stays in place after validation",
        "training/moving_average.py",
        "                variable.assign(value)",
        "                pass",
        "training/test_moving_average.py",
    ),
    Mutant(
        "a resumed run forgets its history",
        "training/loop.py",
        "facts = dataclasses.asdict(self.state)",
        'facts = {**dataclasses.asdict(self.state), "history": []}',
        "training/test_trainer.py",
    ),
    Mutant(
        "the worse model is kept",
        "training/loop.py",
        'if row["val_mean_iou"] > max(earlier, default=-1.0):',
        'if row["val_mean_iou"] < max(earlier, default=2.0):',
        "training/test_trainer.py",
    ),
    Mutant(
        "accumulated gradients are averaged where they must be summed",
        "training/objective.py",
        'weight = recipe.accumulate if recipe.normalization == "sum" else 1',
        "weight = 1",
        "training/test_trainer.py training/test_objective.py",
    ),
    Mutant(
        "a recipe's gradient checkpointing does not reach the model",
        "training/objective.py",
        '"gradient_checkpointing": recipe.gradient_checkpointing',
        '"gradient_checkpointing": False',
        "training/test_objective.py",
    ),
    Mutant(
        "an upper limit of a setting is valid",
        "training/settings.py",
        "item < self.below",
        "item <= self.below",
        "training/test_settings.py",
    ),
    Mutant(
        "an option that is not given resets the recipe's setting",
        "cli/train.py",
        "shared.add_setting(parser, name, default=argparse.SUPPRESS)",
        "shared.add_setting(parser, name)",
        "training/test_settings.py",
    ),
    Mutant(
        "freezing up to a block leaves the block itself free",
        "training/objective.py",
        'frozen = any(layer.name.startswith(f"block{n}_") for n in range(1, last + 1))',
        'frozen = any(layer.name.startswith(f"block{n}_") for n in range(1, last))',
        "training/test_trainer.py training/test_objective.py",
    ),
    Mutant(
        "a failure ends with exit code 0",
        "cli/__init__.py",
        "        return 1\n    except KeyboardInterrupt:",
        "        return 0\n    except KeyboardInterrupt:",
        "cli/test_train.py",
    ),
    # Several devices and processes
    Mutant(
        "what fails in one process passes in the others",
        "distribution/processes.py",
        '        if message is not None:\n            raise ValueError(f"Process {rank} failed',
        '        if False:\n            raise ValueError(f"Process {rank} failed',
        "distribution/test_processes.py",
    ),
    Mutant(
        "replicas average their losses",
        "backends/tensorflow.py",
        'return part + ops.stop_gradient(context.all_reduce("SUM", part) - part)',
        'return part + ops.stop_gradient(context.all_reduce("MEAN", part) - part)',
        "distribution/test_replicas.py",
    ),
    Mutant(
        "every replica drops the same units",
        "layers/dropout.py",
        "backend.replica_id() * _STRIDE",
        "own = keras.ops.cast(replica_id(), seed.dtype) * 0",
        "distribution/test_replicas.py",
    ),
    Mutant(
        "a replica without examples computes of nothing",
        "backends/tensorflow_trainer.py",
        'missing = tf.cast(examples == 0, "int32")',
        "missing = 0 * examples",
        "distribution/test_replicas.py",
    ),
    Mutant(
        "a backend's log follows the last message",
        "distribution/watch.py",
        "    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)",
        "    pass",
        "distribution/test_watch.py",
    ),
    Mutant(
        "PyTorch's loaders keep their first size on TensorFlow",
        "backends/tensorflow_trainer.py",
        "    if _is_data_loader(x):",
        "    if False:",
        "models/test_fit.py",
    ),
    Mutant(
        "an error of the user's generator becomes TensorFlow's",
        "backends/tensorflow_trainer.py",
        "raise errors[0] from error",
        "raise",
        "models/test_fit.py",
    ),
    Mutant(
        "an empty generator ends in StopIteration",
        "backends/tensorflow_trainer.py",
        '        first = next(x, None)\n        _check_batch("generator"',
        '        first = next(x)\n        _check_batch("generator"',
        "models/test_fit.py",
    ),
    # Other backbones
    Mutant(
        "padding same of an odd size is that of an even one",
        "alignment/rules.py",
        "padding = max(span - (length % stride or stride), 0) // 2",
        "padding = max(span - stride, 0) // 2",
        "test_coordinate_maps.py",
    ),
    Mutant(
        "the receptive field of a sum is that of its smallest part",
        "alignment/rules.py",
        "bounds = min(m.first for m in maps), max(m.last for m in maps)",
        "bounds = max(m.first for m in maps), min(m.last for m in maps)",
        "test_coordinate_maps.py",
    ),
    Mutant(
        "a backbone is upsampled by kernels of twice the stride alone",
        "models/backbone.py",
        "for kernel_size in (2 * factor, 2 * factor - 1):",
        "for kernel_size in (2 * factor,):",
        "models/test_backbone.py",
    ),
    Mutant(
        "a feature that begins before the scores is not cropped",
        "models/backbone.py",
        "if step.crop < 0:",
        "if False:",
        "models/test_backbone.py",
    ),
    Mutant(
        "batch normalization of a backbone always trains",
        "models/backbone.py",
        "if freeze_batch_norm and isinstance(layer, layers.BatchNormalization):",
        "if False:",
        "models/test_backbone.py",
    ),
    # The backends' own code
    Mutant(
        "frozen layers learn again after loading",
        "models/base.py",
        "layer.trainable = layer.name not in frozen",
        "layer.trainable = True",
        "models/test_frozen_layers.py",
    ),
    Mutant(
        "an exception in `fit` loses the weights on JAX",
        "backends/jax_trainer.py",
        "                self.state_sync()\n                self._jax_state = None",
        "                self._jax_state = None",
        "models/test_failed_steps.py",
        backend="jax",
    ),
    Mutant(
        "steps_per_execution on JAX trains one batch of each execution",
        "backends/keras_compat.py",
        "return [data, *itertools.islice(iterator, number - 1)]",
        "return [data]",
        "models/test_fit.py",
        backend="jax",
    ),
    Mutant(
        "a prediction on JAX uses up the weights",
        "backends/jax_trainer.py",
        "        with self._predict_lock:\n            if self.predict_function is None or force:",
        "        if True:\n            if self.predict_function is None or force:",
        "models/test_threads.py",
        backend="jax",
    ),
    Mutant(
        "a program of every size is kept",
        "backends/jax_trainer.py",
        "            if len(self._programs) > _SIZES:",
        "            if False:",
        "models/test_many_sizes.py",
        backend="jax",
    ),
    Mutant(
        "the program of the size that was used last is dropped first",
        "backends/jax_trainer.py",
        "self._programs.popitem(last=False)",
        "self._programs.popitem()",
        "models/test_many_sizes.py",
        backend="jax",
    ),
    Mutant(
        "Ctrl-C cuts a step in two",
        "backends/interrupts.py",
        "    signal.signal(signal.SIGINT, lambda *arguments: received.append(arguments))\n",
        "",
        "models/test_failed_steps.py",
        backend="jax",
    ),
    Mutant(
        "the optimizer of the paper does not register",
        "_registration.py",
        '    "keras_fcn.training.optimizer",\n',
        "",
        "test_registration.py",
    ),
    Mutant(
        "a pool's gradient goes to all of equal values",
        "backends/jax_kernels.py",
        "is_maximum = ~found & (windows[:, :, row, :, column] == maxima)",
        "is_maximum = windows[:, :, row, :, column] == maxima",
        "layers/test_vgg_max_pooling2d.py",
        backend="jax",
    ),
    Mutant(
        "an export from PyTorch keeps how the pools of the traced size end",
        "backends/torch.py",
        '        if data_format != "channels_first":',
        "        if True:",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "an export divides a negative size, which ONNX rounds the other way",
        "layers/surround.py",
        "return (pixels + self.stride - 1) // self.stride",
        "return -(-pixels // self.stride)",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "an export to OpenVINO loses the padding of the first convolution",
        "models/vgg16.py",
        """ZeroPadding2D(margin + 1, name=name, **options)(window)
            window = layers.Cropping2D(1, name=f"input_window{suffix}", **options)(window)""",
        """ZeroPadding2D(margin, name=name, **options)(window)""",
        "models/test_export.py",
    ),
    Mutant(
        "an export to ONNX wants the model called before",
        "models/exports.py",
        'input_signature = [keras.InputSpec(dtype="float32", shape=traced, name="image")]',
        "input_signature = None",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "an export of torch.export takes images of one size",
        "backends/torch.py",
        "dict.fromkeys(unknown, Dim.DYNAMIC)",
        "{}",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "an export gives torch.export an unknown size for a tensor",
        "layers/surround.py",
        "(middle - ops.maximum(middle - index, 0))",
        "ops.minimum(index, middle)",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "an export from JAX saves gradients",
        "backends/jax.py",
        '{"with_gradient": False, **',
        '{"with_gradient": True, **',
        "models/test_export.py",
        backend="jax",
    ),
    Mutant(
        "an export from JAX multiplies unknown sizes",
        "backends/jax_kernels.py",
        "if isinstance(rows, int) and isinstance(columns, int):",
        "if True:",
        "models/test_export.py",
        backend="jax",
    ),
    Mutant(
        "an export to LiteRT from PyTorch is for images of one pixel",
        "models/exports.py",
        "if reason and None in shape:",
        "if False:",
        "models/test_export.py",
        backend="torch",
    ),
    Mutant(
        "upsampling by a matrix product turns the kernel's halves round",
        "backends/jax_kernels.py",
        "filters, channels)), (0, 2))",
        "filters, channels)), (0,))",
        "layers/test_fcn_conv2d_transpose.py",
        backend="jax",
    ),
    Mutant(
        "a kernel's gradient leaves out the last rows",
        "backends/jax_kernels.py",
        "steps = -(-height // rows)",
        "steps = max(1, height // rows)",
        "layers/test_vgg_conv2d.py",
        backend="jax",
    ),
    Mutant(
        "a training step on JAX copies every kernel",
        "backends/jax_trainer.py",
        "    if not backend.computes_on_one_cpu():",
        "    if True:",
        "models/test_cost.py",
        backend="jax",
    ),
    Mutant(
        "predictions on PyTorch lie in another order",
        "backends/torch_trainer.py",
        "    return tensor.detach().contiguous().cpu().numpy()",
        "    return tensor.detach().cpu().numpy()",
        "models/test_predict.py",
        backend="torch",
    ),
    Mutant(
        "a prediction on PyTorch keeps the maps of all blocks",
        "models/block_by_block.py",
        "            values = {key: value for key, value in values.items() if key in wanted_later}",
        "            assert wanted_later",
        "models/test_block_by_block.py",
        backend="torch",
    ),
    Mutant(
        "dropout on PyTorch draws from the random numbers of the process",
        "models/vgg16.py",
        "seed=random.getrandbits(31),",
        "seed=None,",
        "models/test_fcn.py training/test_trainer.py",
        backend="torch",
    ),
    Mutant(
        "processes of PyTorch average their gradients",
        "backends/torch_trainer.py",
        "future.then(lambda done: gradients.copy_(done.value()[0]))",
        "future.then(lambda done: gradients.copy_(done.value()[0] / distributed.get_world_size()))",
        "distribution/test_torch.py distribution/test_devices.py",
        backend="torch",
    ),
    # The enlarged image and the packaged weights
    Mutant(
        "the image is enlarged with its edge pixels left out",
        "layers/bilinear_upsampling2d.py",
        "previous = ops.concatenate([first, x",
        "previous = ops.concatenate([last, x",
        "layers/test_bilinear_upsampling2d.py",
    ),
    Mutant(
        "a pixel gets the largest of its enlarged pixels' logits",
        "models/layout.py",
        "layers.AveragePooling2D(",
        "layers.MaxPooling2D(",
        "models/test_input_upsampling.py",
    ),
    Mutant(
        "an enlarged image is thought to need the memory of the image",
        "models/prediction_memory.py",
        "num_images * height * factor[0] * width * factor[1] * per_pixel",
        "num_images * height * width * per_pixel",
        "models/test_input_upsampling.py",
    ),
    Mutant(
        "a recipe's image is not enlarged",
        "training/objective.py",
        '"input_upsampling": recipe.input_upsampling,',
        '"input_upsampling": 1,',
        "training/test_objective.py",
    ),
    Mutant(
        "packaged weights go into a network of another padding",
        "models/fcn.py",
        '_first(padding, published and published.padding, "paper")',
        '_first(padding, "paper")',
        "weights/test_packaged.py",
    ),
    Mutant(
        "damaged packaged weights are loaded",
        "weights/published.py",
        "        check(path, file)\n    except OSError as error:",
        "        path.stat()\n    except OSError as error:",
        "weights/test_packaged.py",
    ),
    Mutant(
        "logits come from an accelerator through ordinary memory",
        "backends/jax_trainer.py",
        'return jax.device_put(array, array.sharding.with_memory_kind("pinned_host"))',
        "return array",
        "models/test_predict.py",
        "jax",
    ),
    # What a prediction holds, and polygons
    Mutant(
        "probabilities are not normalized",
        "inference/prediction.py",
        "        exponents /= exponents.sum(axis=-1, keepdims=True)\n",
        "",
        "inference/test_prediction.py",
    ),
    Mutant(
        "a softmax in the model is taken twice",
        "inference/prediction.py",
        "return model.classifier_activation is None",
        "return True",
        "inference/test_prediction.py",
    ),
    Mutant(
        "several views add up their probabilities",
        "inference/prediction.py",
        "    mean /= len(views)\n",
        "",
        "inference/test_prediction.py",
    ),
    Mutant(
        "a sampled video keeps every frame",
        "data/video.py",
        "                if now <= interval:\n",
        "                if now < interval:\n",
        "data/test_video.py",
    ),
    Mutant(
        "the overlays of a video overwrite an input",
        "cli/predict.py",
        "if path in (video, folder) or folder in path.parents:",
        "if path == folder:",
        "cli/test_predict.py",
    ),
    Mutant(
        "a missing package is found when it is imported",
        "io/extras.py",
        "    if missing:\n",
        "    if False:\n",
        "serve/test_refusals.py inference/test_rasters.py",
    ),
    Mutant(
        "a video of a rotated phone lies on its side",
        "data/video.py",
        "frame.rotation // 90",
        "0",
        "data/test_video.py",
    ),
    Mutant(
        "colours for the colour-blind differ for trichromats alone",
        "label_spaces/colour_blind.py",
        "distances.min(axis=0)",
        "distances[0]",
        "test_label_spaces.py",
    ),
    Mutant(
        "regions that touch at a corner are one polygon",
        "polygons.py",
        "connectivity=4",
        "connectivity=8",
        "test_polygons.py",
    ),
    Mutant(
        "the holes of a polygon run like its outer ring",
        "polygons.py",
        "*(_oriented(hole, -1) for hole in holes)",
        "*(_oriented(hole, 1) for hole in holes)",
        "test_polygons.py",
    ),
    Mutant(
        "caches of ever new sizes are never cleared",
        "inference/caches.py",
        "        if len(self._sizes) > self._max_sizes:\n",
        "        if False:\n",
        "inference/test_caches.py",
    ),
    # Predictions in tiles
    Mutant(
        "windows keep one pixel that sees their padding",
        "inference/windows.py",
        "cuts = [0, *(start + halo.before for start in starts[1:]), length]",
        "cuts = [0, *(start + halo.before - 1 for start in starts[1:]), length]",
        "inference/test_tiles.py",
    ),
    Mutant(
        "windows start between the pixels of coarse feature maps",
        "inference/windows.py",
        "return (size - halo.before - halo.after) // halo.stride * halo.stride",
        "return size - halo.before - halo.after",
        "inference/test_tiles.py",
    ),
    Mutant(
        "the last window does not end as the image does",
        "inference/windows.py",
        "size = tile - (tile - length) % halo.stride",
        "size = tile",
        "inference/test_tiles.py",
    ),
    Mutant(
        "a network that sees the whole image is predicted in tiles",
        "inference/windows.py",
        "    _check_bounded(model, maps)\n",
        "",
        "inference/test_windows.py",
    ),
    Mutant(
        "a window that was being recorded counts as finished",
        "inference/unfinished.py",
        'text.split("\\n")[:-1] or [""]',
        'text.splitlines() or [""]',
        "inference/test_unfinished.py",
    ),
    Mutant(
        "the unfinished file of another model is continued",
        "inference/unfinished.py",
        "        if first != self._description:",
        "        if False:",
        "inference/test_unfinished.py",
    ),
    Mutant(
        "a GeoTIFF loses its place",
        "inference/rasters.py",
        "        **georeference,\n",
        "",
        "inference/test_rasters.py",
    ),
    Mutant(
        "grey of 16 bits keeps its low byte",
        "inference/rasters.py",
        'bands = ((bands.astype("int64") + 128) // 257).astype("uint8")',
        'bands = bands.astype("uint8")',
        "inference/test_rasters.py",
    ),
    Mutant(
        "an index of rows is read as one of channels",
        "alignment/graph.py",
        "    return all(part == whole for part in index[found.rows_axis : found.rows_axis + 2])",
        "    return True",
        "test_coordinate_maps.py",
    ),
    # The server
    Mutant(
        "a body in chunks has no limit",
        "serve/bodies.py",
        "        if received > limits.max_bytes:\n",
        "        if False:\n",
        "serve/test_refusals.py",
    ),
    Mutant(
        "any image format is decoded",
        "serve/bodies.py",
        "Image.open(_Body(body), formats=tuple(_FORMATS))",
        "Image.open(_Body(body))",
        "serve/test_refusals.py",
    ),
    Mutant(
        "the page of another site may post",
        "serve/guard.py",
        "origin is not None and _address(origin) != host",
        "origin is not None and not _address(origin)",
        "serve/test_refusals.py",
    ),
    Mutant(
        "a request that was given up frees its place while it still runs",
        "serve/worker.py",
        "        if self._future is None:\n",
        "        if True:\n",
        "serve/test_refusals.py",
    ),
    Mutant(
        "the label map of a copy is enlarged half a pixel off",
        "serve/segmentation.py",
        "((np.arange(length) + 0.5) * known / length)",
        "((np.arange(length) + 1.5) * known / length).clip(0, known - 1)",
        "serve/test_answers.py",
    ),
    Mutant(
        "Accept knows no qualities",
        "serve/answers.py",
        "qualities[pattern] = float(quality)",
        "qualities[pattern] = 1.0",
        "serve/test_answers.py",
    ),
    Mutant(
        "weights of another padding are loaded without a word",
        "weights/metadata.py",
        "if ours and theirs and ours != dict(theirs):",
        "if False:",
        "weights/test_packaged.py",
    ),
    # Exports
    Mutant(
        "an exported file may be wrong by a hundredth",
        "export/check.py",
        "TOLERANCE = 1e-4",
        "TOLERANCE = 1e-2",
        "export/test_check.py",
    ),
    Mutant(
        "the labels of an exported file are compared where they are equal",
        "export/check.py",
        "[labels != scores.argmax(axis=-1)]",
        "[labels == scores.argmax(axis=-1)]",
        "export/test_check.py",
    ),
    Mutant(
        "an exported file of one size takes every size",
        "export/exported.py",
        "if self.metadata.size not in (None, size):",
        "if self.metadata.size is None and size is None:",
        "export/test_exported.py",
    ),
)


def apply(mutant, package):
    """Changes the one place; raises a ValueError if the code does not have it once."""
    path = package / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise ValueError(f"{mutant.file} must hold once: {mutant.old!r} ({mutant.name}).")
    path.write_text(text.replace(mutant.old, mutant.new))


def first_failure(copy, backend, selection, *arguments):
    """The first test of a run that fails, `None` if all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    if selection:
        command += ["-m", selection]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(copy)}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    environment |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    done = subprocess.run(
        [*command, *arguments], cwd=copy, env=environment, capture_output=True, text=True
    )
    if done.returncode in (0, 5):  # All passed, or none were chosen.
        return None
    found = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", done.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return found[1].removeprefix("tests/")


def hunt(mutant, tree, with_gate, only_own):
    """Returns (which run finds a mutant, the test that does, seconds)."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in PARTS:
            source = tree / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
            elif source.exists():
                shutil.copy(source, copy / part)
        try:
            apply(mutant, copy / "keras_fcn")
        except ValueError:  # Of another checkout, `--tree`.
            return "absent", "", 0.0
        own = [f"tests/{name}" for name in mutant.tests.split() if (copy / "tests" / name).exists()]
        run, found = "default", None
        if own:
            found = first_failure(copy, mutant.backend, None, "-n", "0", *own)
        if found is None and not only_own:
            found = first_failure(copy, mutant.backend, None, "-n", "0", "tests")
        if found is None and with_gate:
            files = own if only_own and own else ["tests"]
            run, found = "gate", first_failure(copy, mutant.backend, GATE, "-n", "0", *files)
    return (run if found else "nothing"), found or "", time.monotonic() - started


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="WORD", help="mutants of these names alone")
    parser.add_argument("--gate", action="store_true", help="what is left against all of the gate")
    parser.add_argument("--own", action="store_true", help="the tests of the own module alone")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--tree", type=Path, default=ROOT, help="another checkout to look at")
    options = parser.parse_args(arguments)
    chosen = [
        mutant
        for mutant in MUTANTS
        if options.only is None or any(word in mutant.name for word in options.only)
    ]
    results = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as threads:
        jobs = [
            threads.submit(hunt, mutant, options.tree, options.gate, options.own)
            for mutant in chosen
        ]
        for mutant, job in zip(chosen, jobs, strict=True):
            run, found, seconds = job.result()
            results.append(run)
            print(
                f"{run:<8} {mutant.backend:<10} {seconds:4.0f} s  {mutant.name:<58} {found}",
                flush=True,
            )
    for run in ("default", "gate", "nothing", "absent"):
        print(f"{run:<8} {results.count(run)} of {len(results)}")
    return 1 if "nothing" in results else 0


if __name__ == "__main__":
    sys.exit(main())
