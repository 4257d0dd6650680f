"""Faults of the server and exported files."""

from .mutant import Mutant

MUTANTS = (
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
