"""The picture that a link to the documentation shows: docs/pictures/social-card.png, 1200 × 630.

    python docs/programs/social_card.py docs/pictures

Chromium draws it: the name, and the classes of the start page's street, each as the most frequent
one in cells of 32, 16 and 8 pixels and then of every pixel.
"""

import base64
import io
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1200, 630
STRIDES = (32, 16, 8, 1)

folder = Path(sys.argv[1])
with Image.open(folder / "street-classes.png") as picture:
    classes, palette = np.array(picture)[:352], np.reshape(picture.getpalette(), (-1, 3))
height, width = classes.shape
counts = np.eye(len(palette), dtype=int)[classes]
coarse = np.empty_like(classes)
for number, stride in enumerate(STRIDES):  # From left to right.
    band = slice(width * number // len(STRIDES), width * (number + 1) // len(STRIDES))
    cells = counts.reshape(height // stride, stride, width // stride, stride, -1).sum((1, 3))
    coarse[:, band] = cells.argmax(-1).repeat(stride, 0).repeat(stride, 1)[:, band]
file = io.BytesIO()
Image.fromarray(palette[coarse].astype("uint8")).save(file, "PNG")

PAGE = f"""<!doctype html><style>
  body {{ margin: 0; width: {WIDTH}px; height: {HEIGHT}px; display: grid; align-items: center;
    grid-template-columns: 1fr 700px; background: #00605a; color: #fff;
    font: 30px/1.4 "Liberation Sans", Arial, sans-serif }}
  div {{ padding-left: 70px }} svg {{ width: 88px; display: block }}
  h1 {{ margin: 40px 0 16px; font-size: 68px; line-height: 1; letter-spacing: -0.02em }}
  p {{ margin: 0 }}
  img {{ width: 700px; height: {HEIGHT}px; object-fit: cover; image-rendering: pixelated }}
</style><div>{(folder / "logo.svg").read_text()}<h1>keras_fcn</h1>
<p>Fully Convolutional Networks<br>for Keras 3 on TensorFlow,<br>JAX and PyTorch</p></div>
<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">"""

with sync_playwright() as playwright:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    tab.set_content(PAGE)
    card = tab.screenshot()
    browser.close()
with Image.open(io.BytesIO(card)) as picture:  # Few colours make a small file.
    picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(
        folder / "social-card.png", optimize=True
    )
