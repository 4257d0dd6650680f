/* Reads the values of a PNG as they are stored.

A canvas would give the colours of a label map instead of its class ids, and some browsers change
what a page reads from a canvas. The server writes palettes and grey of 8 bits and grey of 16 bits,
without interlacing.
*/

const SIGNATURE_LENGTH = 8;

export function bytesOfBase64(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** Returns { width, height, values } of a PNG with one value per pixel. */
export async function decodePng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [];
  let width, height, depth;
  for (let at = SIGNATURE_LENGTH; at < bytes.length; ) {
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const start = at + 8;
    if (name === "IHDR") {
      [width, height] = [view.getUint32(start), view.getUint32(start + 4)];
      depth = view.getUint8(start + 8);
    } else if (name === "IDAT") {
      parts.push(bytes.subarray(start, start + length));
    }
    at = start + length + 4; // A checksum follows.
  }
  const rows = unfiltered(await inflated(parts), width, height, depth / 8);
  return { width, height, values: depth === 16 ? words(rows) : rows };
}

async function inflated(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Undoes the filter of each row: a byte is stored as its difference from its neighbours. */
function unfiltered(data, width, height, step) {
  const length = width * step;
  const rows = new Uint8Array(height * length);
  for (let row = 0; row < height; row++) {
    const source = row * (length + 1);
    const filter = data[source];
    const target = row * length;
    for (let x = 0; x < length; x++) {
      const left = x >= step ? rows[target + x - step] : 0;
      const above = row ? rows[target + x - length] : 0;
      const corner = row && x >= step ? rows[target + x - length - step] : 0;
      rows[target + x] = data[source + 1 + x] + predicted(filter, left, above, corner);
    }
  }
  return rows;
}

function predicted(filter, left, above, corner) {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const [toLeft, toAbove] = [Math.abs(above - corner), Math.abs(left - corner)];
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}

function words(bytes) {
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => (bytes[2 * i] << 8) | bytes[2 * i + 1]);
}
