"""The receptive field and the stride of VGG-16 through fc6, as published and with dilation."""


def field(layers):
    """Returns receptive field and stride after layers of (kernel size, stride, dilation)."""
    size, stride = 1, 1
    for kernel, step, dilation in layers:
        size += (kernel - 1) * dilation * stride
        stride *= step
    return size, stride


conv, pool = (3, 1, 1), (2, 2, 1)
start = [conv, conv, pool, conv, conv, pool, conv, conv, conv, pool, conv, conv, conv]
print("VGG-16:", field([*start, pool, conv, conv, conv, pool, (7, 1, 1)]))
dilated = [(2, 1, 1), (3, 1, 2), (3, 1, 2), (3, 1, 2), (2, 1, 2), (7, 1, 4)]
print("dilated:", field(start + dilated))
print("the same without dilation:", field(start + [(k, 1, 1) for k, _, _ in dilated]))
