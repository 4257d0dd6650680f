"""Faults of weights and their files."""

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "a first kernel for more channels is not rescaled",
        "weights/channels.py",
        "% known] * (known / channels)",
        "% known]",
        "models/test_backbone.py weights/test_load.py",
    ),
    Mutant(
        "a first kernel takes other channels in the order of Caffe",
        "weights/networks.py",
        "kernel_for_channels(array[:, :, order], channels)",
        "kernel_for_channels(array, channels)",
        "weights/test_load.py",
    ),
    Mutant(
        "one head takes SIFT Flow's geometric classes",
        "weights/networks.py",
        'layer.removesuffix("_semantic")',
        'layer.removesuffix("_geometric")',
        "models/test_multitask.py weights/test_published.py",
    ),
    Mutant(
        "random fc6 and fc7 are not told from a network of random values",
        "weights/diagnose.py",
        "    elif set(names) <= _HEAD:",
        "    elif False:",
        "weights/test_diagnose.py",
    ),
    Mutant(
        "the random head of a backbone is told as a random backbone",
        "weights/diagnose.py",
        "        names = [name for name in names if name not in _HEAD]",
        "        of_head = []",
        "weights/test_diagnose.py training/test_objective.py",
    ),
    Mutant(
        "kernels of the paper keep rows and columns exchanged",
        "weights/paper_names.py",
        "np.ascontiguousarray(np.transpose(array, (2, 3, 1, 0)))",
        "np.ascontiguousarray(np.transpose(array, (3, 2, 1, 0)))",
        "weights/test_paper_formats.py weights/test_caffe.py",
    ),
    Mutant(
        "weights of minus infinity are loaded",
        "weights/port.py",
        "(np.isfinite(array.min()) and np.isfinite(array.max()))",
        "np.isfinite(array.max())",
        "weights/test_load.py",
    ),
    Mutant(
        "half precision of NVIDIA's Caffe is read as single",
        "weights/caffe.py",
        '2: "<f2"',
        '2: "<f4"',
        "weights/test_caffe.py",
    ),
    Mutant(
        "the last upsampling of a coarser network on a backbone is kept",
        "weights/networks.py",
        "    return layers - sources, sources - layers",
        "    return layers - sources - {'upscore8'}, sources - layers",
        "weights/test_load.py",
    ),
    Mutant(
        "a run starts from one on another backbone",
        "training/trainer.py",
        'if plain_name(theirs.backbone or "") != plain_name(recipe.backbone or ""):',
        "if False:",
        "training/test_trainer.py",
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
    Mutant(
        "damaged packaged weights are loaded",
        "weights/published_files.py",
        "        check(path, file)\n    except OSError as error:",
        "        path.stat()\n    except OSError as error:",
        "weights/test_packaged.py",
    ),
    Mutant(
        "weights of another padding are loaded without a word",
        "weights/metadata.py",
        "if ours and theirs and ours != dict(theirs):",
        "if False:",
        "weights/test_packaged.py",
    ),
    Mutant(
        "the checksum of a file of the Hub is not compared",
        "io/hub.py",
        "if received != file.sha256:",
        "if False:",
        "io/test_hub.py",
    ),
    Mutant(
        "a file of the Hub without a revision is taken without a word",
        "io/hub.py",
        "if file.revision is None:\n        fixed",
        "if False:\n        fixed",
        "io/test_hub.py",
    ),
    Mutant(
        "a recipe keeps the branch of its weights on the Hub",
        "training/recipe.py",
        "return hub.pinned(weights)",
        "return weights",
        "weights/test_hub.py",
    ),
    Mutant(
        "a private model goes into a public repository",
        "io/hub.py",
        "if private and not api.model_info(repo).private:",
        "if False:",
        "training/test_push.py",
    ),
)
