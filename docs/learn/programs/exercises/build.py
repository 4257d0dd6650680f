"""Sizes in FCN-8s with padding="same" along one axis, with pools that round up and down."""


def missing(size, rounded_up):
    """Returns how many pixels the upsampled scores fall short of what they are cropped to."""
    pools, pixels = [], size
    for _ in range(5):
        pixels = (pixels + rounded_up) // 2
        pools.append(pixels)
    _, _, pool3, pool4, pool5 = pools
    upsampled = 2 * pool5 + 2 - 1, 2 * pool4 + 2 - 1, 8 * pool3 + 8 - 4
    return [max(wanted - x, 0) for wanted, x in zip((pool4, pool3, size), upsampled, strict=True)]


for name, rounded_up in (("up", 1), ("down", 0)):
    failing = [size for size in range(32, 513) if any(missing(size, rounded_up))]
    print(f"rounded {name}: {len(failing)} of 481 sizes do not fit", failing[:6])
print("375 pixels, rounded down, missing:", missing(375, 0))
