"""Which bilinear kernel brings scores back to whole pixels of the image, and the crop."""

for name, offset, stride in (
    ("VGG-16, pool5", 15.5, 32),
    ("AlexNet, fc6", 13, 32),
    ("AlexNet, fc6 of 5x5", -3, 32),
    ("ResNet50, stride 32", 0, 32),
    ("ResNet50, stride 4", 0, 4),
):
    for kernel in (2 * stride, 2 * stride - 1):
        first = offset - (kernel - 1) / 2  # Of the upsampled scores, in the image.
        if first % 1 == 0:
            print(f"{name}: kernel {kernel}, crop {-first:g}")
