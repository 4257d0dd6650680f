"""Faults in the check of a data set and in the search for label errors."""

from .mutant import Mutant

MUTANTS = (
    Mutant(
        "near duplicates of two splits go unseen above half of the distance",
        "data/near_duplicates.py",
        "np.nonzero(products >= hashes.shape[1] - 2 * max_distance)",
        "np.nonzero(products >= hashes.shape[1] - max_distance)",
        "data/test_near_duplicates.py",
    ),
    Mutant(
        "equal images count as near duplicates, too",
        "data/near_duplicates.py",
        "images[i].digest != others[j].digest",
        "True",
        "data/test_near_duplicates.py",
    ),
    Mutant(
        "label maps shifted to the other side are asked for",
        "data/label_alignment.py",
        "row, column = rows + down, columns + right",
        "row, column = rows - down, columns - right",
        "data/test_label_alignment.py",
    ),
    Mutant(
        "boundaries of ignored regions count",
        "data/label_alignment.py",
        "            differs &= (one != ignore_class) & (other != ignore_class)",
        "            pass",
        "data/test_label_alignment.py",
    ),
    Mutant(
        "warnings of the data check change the exit code",
        "cli/data.py",
        "return 1 if report.errors else 0",
        "return 1 if report.problems else 0",
        "data/test_check.py",
    ),
    Mutant(
        "boundaries that are a little off are label errors",
        "training/contradicted_regions.py",
        "    for axis in (0, 1):\n        along",
        "    for axis in ():\n        along",
        "training/test_contradicted_regions.py",
    ),
    Mutant(
        "the thresholds of a class are those of the label",
        "training/contradicted_regions.py",
        "self.probabilities >= thresholds[self.predicted] - 1e-3",
        "self.probabilities >= thresholds[self.labels] - 1e-3",
        "training/test_contradicted_regions.py",
    ),
    Mutant(
        "images are judged by a model that was trained on them",
        "training/label_errors.py",
        "    for held_out in (True, False):",
        "    for held_out in (False, True):",
        "training/test_label_errors.py",
    ),
)
