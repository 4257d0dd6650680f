"""A dense layer on windows of 2x2 positions, and the same weights as a 2x2 convolution."""

import numpy as np

generator = np.random.default_rng(0)
features = generator.normal(size=(4, 5, 3))
matrix = generator.normal(size=(2 * 2 * 3, 6))

# The dense layer, once for each window.
windows = [[features[r : r + 2, c : c + 2].ravel() for c in range(4)] for r in range(3)]
dense = np.array(windows) @ matrix

# The convolution: one matrix of 3x6 for each of the kernel's four positions.
kernel = matrix.reshape(2, 2, 3, 6)
convolution = sum(features[r : r + 3, c : c + 4] @ kernel[r, c] for r in range(2) for c in range(2))
print("scores:", convolution.shape, "equal:", np.allclose(dense, convolution))

# Caffe flattens the channels first; the same values in this order are another kernel.
caffe = matrix.reshape(3, 2, 2, 6).transpose(1, 2, 0, 3)
wrong = sum(features[r : r + 3, c : c + 4] @ caffe[r, c] for r in range(2) for c in range(2))
print("flattened in the other order, equal:", np.allclose(dense, wrong))
