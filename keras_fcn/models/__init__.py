"""FCN-32s, FCN-16s and FCN-8s, and the coordinate alignment that determines their crop offsets."""
