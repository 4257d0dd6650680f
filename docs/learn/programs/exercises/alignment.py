"""The crop offsets of FCN-32s, 16s and 8s for other paddings of the image."""

for padding in (60, 81, 100):
    first = {}  # The coordinate of pixel 0, by stride.
    stride, place = 1, -(padding - 1)
    for _ in range(5):
        stride, place = 2 * stride, place + stride / 2
        first[stride] = place
    scores = place + 32 * 3  # fc6.
    offsets = {"32s": [-(scores - 31.5)]}
    for name, skips in (("16s", (16,)), ("8s", (16, 8))):
        x, offsets[name] = scores, []
        for skip in skips:
            x -= 2 * skip * 0.75
            offsets[name].append((x - first[skip]) / skip)
        offsets[name].append(-(x - (skips[-1] - 0.5)))
    text = ", ".join(f"{name} {[f'{o + 0:g}' for o in found]}" for name, found in offsets.items())
    print(f"padding {padding}: {text}".replace("'", ""))
