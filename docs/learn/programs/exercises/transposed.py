"""A convolution along one axis as a matrix, and its transpose."""

import numpy as np

kernel, stride, outputs = np.array([1, 2, 1]), 2, 3
matrix = np.zeros((outputs, (outputs - 1) * stride + len(kernel)), int)
for row in range(outputs):
    matrix[row, row * stride : row * stride + len(kernel)] = kernel
print(matrix)
print("transposed:", matrix.T @ [1, 3, 2])
print("copies that overlap, kernel 3, stride 2:", (matrix > 0).T @ [1, 1, 1])
bilinear = np.zeros((4, 10))
for row in range(4):
    bilinear[row, row * 2 : row * 2 + 4] = [0.25, 0.75, 0.75, 0.25]
print("bilinear, of ones:", bilinear.T @ np.ones(4))
