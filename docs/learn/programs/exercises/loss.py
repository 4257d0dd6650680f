"""The gradient of the cross-entropy of six pixels, two of them ignored, as a sum and as a mean."""

import numpy as np

logits = np.zeros((6, 4))
label_map = np.array([0, 0, 2, 3, 255, 255])
valid = label_map != 255
p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
print("loss per pixel:", -np.log(p[valid, label_map[valid]]).round(4))
gradient = np.where(valid[:, None], p - (label_map[:, None] == np.arange(4)), 0)
print("gradient of the first pixel:", gradient[0])
print("of an ignored pixel:", gradient[4])
print("sum / mean:", np.abs(gradient).sum() / np.abs(gradient / valid.sum()).sum())
