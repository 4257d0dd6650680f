"""The pixels that one output sees along one axis, through 3x3 convolutions with dilation."""

for rates in ((1, 1, 1), (1, 2, 4), (2, 2, 2), (1, 2, 4, 8)):
    seen = {0}
    for rate in rates:
        seen = {place + step for place in seen for step in (-rate, 0, rate)}
    print(f"dilation {rates}: sees {len(seen)} of {max(seen) - min(seen) + 1} pixels")
