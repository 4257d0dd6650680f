"""Rebuilds a model in another precision."""

from typing import Any

from keras_fcn.layers.inside import with_layers_inside
from keras_fcn.models.base import BaseFCN


def in_precision(model: BaseFCN, policy: str) -> BaseFCN:
    """Returns the model, rebuilt with the same weights if it computes in another precision.

    Args:
        model: An FCN. Its weights stay in float32 in every precision.
        policy: Dtype policy of the model and of its backbone: `"float32"`, `"mixed_bfloat16"` or
            `"mixed_float16"`.
    """
    if all(layer.dtype_policy.name == policy for layer in with_layers_inside(model)):
        return model
    config = _with_policy(model.get_config(), policy) | {"dtype": policy, "layer_dtypes": {}}
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _with_policy(config: Any, policy: str) -> Any:
    """Returns a configuration in which every dtype policy is this one."""
    if isinstance(config, (list, tuple)):
        return [_with_policy(value, policy) for value in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return config | {"config": {"name": policy}}
    return {key: _with_policy(value, policy) for key, value in config.items()}
