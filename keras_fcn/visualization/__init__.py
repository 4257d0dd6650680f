"""Pictures of label maps, curves, confusion matrices and legends."""

from keras_fcn.visualization.pictures import (
    as_rgb,
    colorize,
    contact_sheet,
    legend,
    outline,
    overlay,
    overlay_picture,
    picture_row,
    save_label_map,
    stack_pictures,
)
from keras_fcn.visualization.plots import (
    plot_class_shares,
    plot_confusion_matrix,
    plot_curves,
    plot_histories,
    plot_rate_search,
    plot_receptive_fields,
)

__all__ = [
    "as_rgb",
    "colorize",
    "contact_sheet",
    "legend",
    "outline",
    "overlay",
    "overlay_picture",
    "picture_row",
    "plot_class_shares",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_histories",
    "plot_rate_search",
    "plot_receptive_fields",
    "save_label_map",
    "stack_pictures",
]
