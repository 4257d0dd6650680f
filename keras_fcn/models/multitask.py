"""Networks of several tasks: one convolutionalized VGG-16, and a decoder for each label map."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from keras_fcn import weights as weight_files
from keras_fcn.arguments import as_tuple
from keras_fcn.backends import backend
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.layers import VGGPreprocessing
from keras_fcn.layers.vgg_preprocessing import PASCAL_VOC_MEAN
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.checks import check_config, check_dictionary, check_keywords
from keras_fcn.models.config import DEFAULTS, as_json, label_space_config
from keras_fcn.models.decoder import Decoder
from keras_fcn.models.fcn import FCN, FCN8s, FCN16s, FCN32s
from keras_fcn.models.features import vgg16_features
from keras_fcn.models.layout import change_layout, output_layers
from keras_fcn.spec import SEMANTIC, VGG16_FILTERS, output_stride


class MultitaskFCN(BaseFCN):
    """An FCN with one head per task; use `MultitaskFCN32s`, `MultitaskFCN16s` or `MultitaskFCN8s`.

    The tasks share VGG-16, fc6 and fc7; each has its own score layers, upsampling and logits. So
    are the release's networks for SIFT Flow, of 33 semantic and 3 geometric classes. Section 5 of
    the paper.

    `compile` takes a dictionary of losses and `fit` one of label maps, by task.

    Args:
        num_classes: Dictionary from the name of each task to its number of classes:
            `{"semantic": 33, "geometric": 3}`.
        weights: As in `FCN`; `"sift_flow"` for the authors' models.
        padding: As in `FCN`.
        filters: As in `FCN`.
        fc_units: As in `FCN`.
        dropout_rate: As in `FCN`.
        trainable_upsampling: As in `FCN`.
        mean: As in `FCN`.
        label_spaces: Dictionary from tasks to their `LabelSpace`, saved with the model; `None` for
            none.
        dtype: As in `FCN`.
        name: Name of the model.

    Input shape:
        (batch, height, width, 3), RGB in [0, 255], height and width at least 1.

    Output shape:
        Dictionary from each task to (batch, height, width, classes), unnormalized logits in
        float32.

    Raises:
        ValueError: If an argument is invalid, or `weights` do not fit the model.
        FileNotFoundError: If `weights` is a path and no such file exists.

    Examples:
        >>> model = MultitaskFCN8s({"semantic": 33, "geometric": 3}, fc_units=16)
        >>> logits = model(np.zeros((1, 8, 9, 3)))
        >>> tuple(logits["semantic"].shape), tuple(logits["geometric"].shape)
        ((1, 8, 9, 33), (1, 8, 9, 3))

    References:
        - [Long et al., 2015](https://arxiv.org/abs/1411.4038), section 5
    """

    def __init__(
        self,
        num_classes: Mapping[str, int],
        *,
        weights: str | os.PathLike | keras.Model | None = None,
        padding: str = "paper",
        filters: tuple[int, int, int, int, int] = VGG16_FILTERS,
        fc_units: int = 4096,
        dropout_rate: float = 0.5,
        trainable_upsampling: bool = False,
        mean: tuple[float, float, float] | None = None,
        label_spaces: Mapping[str, LabelSpace] | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        check_keywords(self, kwargs)
        if not isinstance(num_classes, Mapping) or not num_classes:
            raise ValueError(
                "`num_classes` must be a dictionary from tasks to numbers of classes. Received: "
                f"{num_classes=}."
            )
        for task in num_classes:
            if not isinstance(task, str) or not task or "/" in task:
                raise ValueError(
                    "`num_classes` must have names of tasks as keys, without '/', which Keras "
                    f"allows in no name of a layer. Received: {task!r}."
                )
        dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        published = weight_files.find_published(weights, output_stride(self.skips))
        if published is not None and mean is None:
            mean = published.mean
        config = as_json(
            {
                "padding": padding,
                "filters": as_tuple("filters", filters),
                "fc_units": fc_units,
                "dropout_rate": dropout_rate,
                "trainable_upsampling": trainable_upsampling,
                "mean": PASCAL_VOC_MEAN if mean is None else as_tuple("mean", mean),
            }
        )
        check_dictionary("label_spaces", label_spaces, "from tasks to their LabelSpace")
        spaces = {task: label_space_config(space) for task, space in (label_spaces or {}).items()}
        if unknown := sorted(spaces.keys() - num_classes.keys()):
            raise ValueError(
                f"`label_spaces` must have keys among {list(num_classes)}. Received: {unknown}."
            )
        of_vgg16 = {
            **DEFAULTS,
            **config,
            "input_shape": (None, None, 3),
            "include_preprocessing": True,
            "data_format": "channels_last",
        }
        for task, classes in num_classes.items():
            one = {**of_vgg16, "num_classes": classes, "label_space": spaces.get(task)}
            check_config(one, weights)
        config["num_classes"] = as_json(num_classes)
        config["label_spaces"] = spaces or None

        layout = backend.data_format
        options: dict[str, Any] = {"data_format": layout, "dtype": dtype}
        inputs = keras.Input((None, None, 3), dtype="float32", name="image")
        image = change_layout(inputs, "channels_last", layout, "image_layout")
        x = VGGPreprocessing(config["mean"], name="preprocessing", **options)(image)
        features = vgg16_features(x, of_vgg16, self.skips, **options)
        outputs = {}
        for task, classes in config["num_classes"].items():
            decoder = Decoder(classes, trainable_upsampling, suffix=f"_{task}", **options)
            logits = decoder.logits(features, image)
            outputs[task] = output_layers(logits, None, layout, "channels_last", f"_{task}")
        name = name or type(self).__name__.lower()
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._store_config(config, dtype)
        if weights is not None:
            weight_files.load(self, weights)

    def _check_task(self, task):
        if task not in self.tasks:
            raise ValueError(f"`task` must be one of {', '.join(self.tasks)}. Received: {task=}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self._config["num_classes"])

    @property
    def num_classes(self) -> dict[str, int]:  # type: ignore[override]
        """Dictionary from each task to its number of classes."""
        return dict(self._config["num_classes"])

    @property
    def label_space(self) -> dict[str, LabelSpace] | None:  # type: ignore[override]
        """Dictionary from tasks to their `LabelSpace`; `None` if the model has none."""
        spaces = self._config["label_spaces"]
        return None if spaces is None else {task: LabelSpace(**s) for task, s in spaces.items()}

    def of_task(self, task: str) -> keras.Model:
        """Returns the model of one task's logits, which shares all layers with this one.

        Args:
            task: One of `tasks`.

        Raises:
            ValueError: If there is no such task.
        """
        self._check_task(task)
        return keras.Model(self.inputs[0], self.output[task], name=f"{self.name}_{task}")

    def as_fcn(self, task: str) -> FCN:
        """Returns an FCN of one task with a copy of the weights.

        Args:
            task: One of `tasks`.

        Raises:
            ValueError: If there is no such task.
        """
        self._check_task(task)
        network = {model.skips: model for model in (FCN32s, FCN16s, FCN8s)}[self.skips]
        shared = ("padding", "filters", "fc_units", "dropout_rate", "trainable_upsampling", "mean")
        model = network(
            self.num_classes[task],
            **{name: self._config[name] for name in shared},
            label_space=(self.label_space or {}).get(task),
            data_format="channels_last",
            dtype=self.dtype_policy,
        )
        own = {layer.name.removesuffix(f"_{task}"): layer for layer in self.layers}
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(own[layer.name].get_weights())
        return model

    def blank(self, num_classes: int, fc_units: int, **options: Any) -> "MultitaskFCN":
        """Returns a new network of the same classes in the published architecture."""
        return type(self)(self.num_classes, fc_units=fc_units, dtype="float32")


@keras.saving.register_keras_serializable(package="keras_fcn")
class MultitaskFCN32s(MultitaskFCN):
    """FCN-32s of several tasks. Arguments and shapes as for `MultitaskFCN`.

    Examples:
        >>> model = MultitaskFCN32s({"semantic": 33, "geometric": 3}, fc_units=16)
        >>> model.tasks
        ('semantic', 'geometric')
    """


@keras.saving.register_keras_serializable(package="keras_fcn")
class MultitaskFCN16s(MultitaskFCN):
    """FCN-16s of several tasks. Arguments and shapes as for `MultitaskFCN`.

    Examples:
        >>> model = MultitaskFCN16s({"semantic": 33, "geometric": 3}, fc_units=16)
        >>> model.tasks
        ('semantic', 'geometric')
    """

    skips = ("pool4",)


@keras.saving.register_keras_serializable(package="keras_fcn")
class MultitaskFCN8s(MultitaskFCN):
    """FCN-8s of several tasks. Arguments and shapes as for `MultitaskFCN`.

    Examples:
        >>> model = MultitaskFCN8s({"semantic": 33, "geometric": 3}, fc_units=16)
        >>> model.tasks
        ('semantic', 'geometric')
    """

    skips = ("pool4", "pool3")


def models_of_tasks(model: BaseFCN) -> dict[str, keras.Model]:
    """Returns the model of each task's logits; a network of one task is that of "semantic"."""
    if not isinstance(model, MultitaskFCN):
        return {SEMANTIC: model}
    return {task: model.of_task(task) for task in model.tasks}
