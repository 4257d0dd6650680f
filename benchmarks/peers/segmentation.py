"""Networks of torchvision and segmentation_models_pytorch on ResNet-50, with random weights."""

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], "float32")
STANDARD_DEVIATION = np.array([0.229, 0.224, 0.225], "float32")


def fcn_resnet50(num_classes: int):
    """Returns torchvision's FCN: ResNet-50 dilated to output stride 8, no skip connections."""
    from torch import nn
    from torchvision.models.segmentation import fcn_resnet50

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = fcn_resnet50(
                weights=None, weights_backbone=None, num_classes=num_classes
            )

        def forward(self, image):
            return self.network(image)["out"]

    return Logits()


def fpn_resnet50(num_classes: int):
    """Returns segmentation_models_pytorch's feature pyramid network with ResNet-50 as encoder."""
    import segmentation_models_pytorch

    return segmentation_models_pytorch.FPN("resnet50", encoder_weights=None, classes=num_classes)


def predict(network, image: np.ndarray) -> np.ndarray:
    """Returns the logits (batch, height, width, classes) of RGB images in [0, 255]."""
    import torch

    normalized = (image / 255 - MEAN) / STANDARD_DEVIATION
    tensor = torch.from_numpy(np.ascontiguousarray(normalized.transpose(0, 3, 1, 2)))
    with torch.inference_mode():
        return network(tensor).numpy().transpose(0, 2, 3, 1)
