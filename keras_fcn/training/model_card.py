"""The model card of a run: its description on the Hugging Face Hub."""

import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.spelling import counted
from keras_fcn.training.evaluate import SCORE_NAMES, score_title
from keras_fcn.training.recipe import PATHS, SETTINGS, Recipe
from keras_fcn.training.run import MODEL, Run
from keras_fcn.training.trained import are_in_files

_TASK = "image-segmentation"
_SCORES = sorted(SCORE_NAMES, key=lambda name: name != "mean_iou")  # The main score first.
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.-]*")


def scores_of(run: Run) -> dict[str, Any]:
    """Returns the validation scores of a run's best epoch, empty if it was not validated.

    Scores are fractions; that of a class without pixels is `None`.
    """
    best = run.best_epoch()
    if best is None:
        return {}
    values = {
        name.removeprefix("val_"): value if math.isfinite(value) else None
        for name, value in best.items()
        if name.startswith("val_")
    }
    class_iou = {
        name.removeprefix("iou/"): value
        for name, value in values.items()
        if name.startswith("iou/")
    }
    scores = {name: values[name] for name in _SCORES if name in values}
    return {"epoch": best["epoch"], **scores, "class_iou": class_iou}


def model_card(run: Run, repo: str, license: str | None = None) -> str:
    """Returns the card in Markdown, with the Hub's metadata in YAML in front.

    Args:
        run: A finished run.
        repo: `"owner/repo"` that the model is uploaded to.
        license: One of the Hub's identifiers, such as `"cc-by-4.0"`, or the name of another
            licence; `None` if it is not known.
    """
    name, recipe = run.recipe()
    scores = scores_of(run)
    metadata = _metadata(name, recipe, scores, license)
    space = run.label_space()
    user_code = "".join(
        f"\nThe run was begun in Python with {argument}: {', '.join(names)}.\n"
        for argument, names in run.user_code_names().items()
    )
    return f"""---
{metadata.to_yaml().strip()}
---

# {repo.partition("/")[2]}

Semantic segmentation into {space.num_classes} classes: {_network(recipe)} of
[keras_fcn](https://pypi.org/project/keras-fcn/), trained by the recipe `{name}` on {_data(recipe)}.

## Use

```bash
pip install "keras-fcn[hub]"
{_example(recipe, f"hf://{repo}/{MODEL}@REVISION")}
```

`REVISION` is a commit of this repository. The model takes {_images(recipe)}.

## Scores

{_score_table(recipe, scores)}

## Classes

{_class_table(space, scores)}

`classes.toml` holds names, colours and the ignored class.

## Training

```bash
{training_command(recipe)}
```
{user_code}
`recipe.toml` holds all settings, and `metrics.csv` the scores of every epoch.

{_table(("environment", "value"), run.environment().items())}
"""


def training_command(recipe: Recipe) -> str:
    """Returns the command that repeats a run from its `recipe.toml`, with the reader's folders."""
    words = ["keras-fcn", "train", "recipe.toml"]
    for name in PATHS:
        if getattr(recipe, name) is not None and name != "data_dir":
            words += [SETTINGS[name].option_name, name.upper()]
    return shlex.join([*words, "--out", "RUN"])


def _metadata(name, recipe, scores, license):
    import huggingface_hub

    results = [
        huggingface_hub.EvalResult(
            task_type=_TASK,
            task_name="Semantic segmentation",
            dataset_type=recipe.data.partition("/")[0] if recipe.data else "image-folder",
            dataset_name=_data(recipe),
            dataset_split=recipe.val_split if recipe.data else None,
            metric_type=score,
            metric_name=score_title(score),
            metric_value=scores[score],
        )
        for score in _SCORES
        if scores.get(score) is not None
    ]
    return huggingface_hub.ModelCardData(
        **_license(license),
        library_name="keras",
        pipeline_tag=_TASK,
        tags=["keras-fcn", "semantic-segmentation", "fully-convolutional-network", recipe.model],
        datasets=[recipe.data.partition("/")[0]] if recipe.data else None,
        metrics=[result.metric_type for result in results] or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def _license(license):
    if license is None:
        return {"license": "unknown"}
    if _LICENSE_ID.fullmatch(license):
        return {"license": license}
    return {"license": "other", "license_name": license}


def _network(recipe):
    backbone = recipe.backbone or "VGG-16"
    if recipe.model == "fcn_alexnet":
        return "FCN-AlexNet"
    return f"{recipe.model.upper()[:3]}-{recipe.model[3:]} on {backbone}"


def _example(recipe, address):
    if are_in_files(recipe.modalities):
        return f"keras-fcn predict {address} photo.jpg"
    return f"keras-fcn evaluate {address} {recipe.data}"


def _images(recipe):
    if recipe.modalities == ("image",):
        channels = recipe.channels
        kind = "RGB images" if channels == 3 else f"images of {counted(channels, 'channel')}"
        return f"{kind} of every size in\n[0, 255]"
    ranges = {"image": "RGB in [0, 255]", "depth": "depth in millimetres", "hha": "HHA in [0, 255]"}
    return f"images of every size:\n{' and '.join(ranges[name] for name in recipe.modalities)}"


def _data(recipe):
    return recipe.data or "own images"


def _score_table(recipe: Recipe, scores: Mapping[str, Any]) -> str:
    if not scores:
        return "The run had no validation set."
    split = f"the split `{recipe.val_split}`" if recipe.data else "the validation images"
    rows = [(score_title(name), f"{scores[name]:.4f}") for name in _SCORES if name in scores]
    return (
        f"{_table(('score', 'value'), rows)}\n\nOn {split}, of epoch {scores['epoch']}: fractions "
        "from one confusion matrix, without ignored pixels and without test-time augmentation."
    )


def _class_table(space: LabelSpace, scores: Mapping[str, Any]) -> str:
    class_iou = scores.get("class_iou", {})
    rows = []
    for index, name in enumerate(space.class_names):
        value = class_iou.get(name)
        rows.append((str(index), name, "" if value is None else f"{value:.4f}"))
    return _table(("id", "class", "IoU"), rows)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
