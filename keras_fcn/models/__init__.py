"""FCN-32s, FCN-16s and FCN-8s, and the alignment that their crops follow from."""
