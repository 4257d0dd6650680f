/* Draws a photo with the classes that were predicted for its pixels. */

// This colour is opaque where the model gives its class a probability of half or less.
const DOUBT = [255, 140, 0];
// Outlines are as thick in a large photo as in a small one.
const PIXELS_PER_THICKNESS = 400;

/** Draws the photo, if the browser can show it, under the layer of a view. */
export function draw(canvas, item, { view, opacity, hidden, colours }) {
  const { labelMap, confidenceMap } = item.result ?? {};
  const { width, height } = labelMap ?? item.photo ?? { width: 4, height: 3 };
  [canvas.width, canvas.height] = [width, height];
  canvas.style.setProperty("--ratio", width / height);
  const context = canvas.getContext("2d");
  if (item.photo) context.drawImage(item.photo, 0, 0, width, height);
  if (!labelMap) return;
  const layer = new ImageData(width, height);
  const pixels = new Uint32Array(layer.data.buffer);
  const palette = colours.map((colour, id) => (hidden.has(id) ? 0 : packed(colour)));
  if (view === "confidence") {
    fillDoubt(pixels, confidenceMap.values, labelMap.values, hidden);
  } else if (view === "outlines") {
    fillOutlines(pixels, labelMap, palette);
  } else {
    labelMap.values.forEach((id, index) => (pixels[index] = palette[id]));
  }
  const buffer = new OffscreenCanvas(width, height);
  buffer.getContext("2d").putImageData(layer, 0, 0);
  context.globalAlpha = opacity;
  context.drawImage(buffer, 0, 0);
  context.globalAlpha = 1;
}

function fillDoubt(pixels, confidence, ids, hidden) {
  const opaque = packed(DOUBT) & 0xffffff;
  for (let index = 0; index < pixels.length; index++) {
    if (hidden.has(ids[index])) continue;
    pixels[index] = (opaque | (Math.min(255, 2 * (255 - confidence[index])) << 24)) >>> 0;
  }
}

function fillOutlines(pixels, { width, height, values }, palette) {
  const thickness = Math.max(1, Math.round(Math.max(width, height) / PIXELS_PER_THICKNESS));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const index = y * width + x;
      for (let shift = 1; shift <= thickness; shift++) {
        if (x + shift < width) outline(pixels, values, palette, index, index + shift);
        if (y + shift < height) outline(pixels, values, palette, index, index + shift * width);
      }
    }
  }
}

function outline(pixels, values, palette, one, other) {
  if (values[one] === values[other]) return;
  pixels[one] = palette[values[one]];
  pixels[other] = palette[values[other]];
}

/** Red, green and blue as the bytes of an opaque pixel: its first byte is the lowest. */
function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Returns [red, green, blue] of #rrggbb. */
export function parsed(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}
