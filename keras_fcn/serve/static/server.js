/* Asks the server. */

import { bytesOfBase64, decodePng } from "./png.js";

const LONGEST_WAIT = 10;

/** What the server, or the way to it, did not do; status 0 if it did not answer. */
export class ServerError extends Error {
  constructor(status, sentence = "") {
    super(sentence);
    this.status = status;
  }
}

export async function modelOfServer() {
  const response = await fetch("model");
  if (!response.ok) throw new ServerError(response.status);
  return response.json();
}

/** Returns what the server predicts: its JSON with the maps as { width, height, values }. */
export async function predict(file, maxSide, onBusy) {
  const started = performance.now();
  const query = new URLSearchParams({ output: "label_map" });
  query.append("output", "confidence_map");
  const response = await post(file, "application/json", maxSide, query, onBusy);
  const found = await response.json();
  const png = bytesOfBase64(found.label_map);
  return {
    ...found,
    seconds: (performance.now() - started) / 1000,
    file: new Blob([png], { type: "image/png" }),
    labelMap: await decodePng(png),
    confidenceMap: await decodePng(bytesOfBase64(found.confidence_map)),
  };
}

/** Returns the regions of the classes as a GeoJSON file. */
export async function polygons(file, maxSide, onBusy) {
  const response = await post(file, "application/geo+json", maxSide, new URLSearchParams(), onBusy);
  return response.blob();
}

async function post(file, accept, maxSide, query, onBusy) {
  if (maxSide) query.set("max_side", maxSide);
  const headers = { Accept: accept, "Content-Type": file.type || "application/octet-stream" };
  for (;;) {
    const response = await fetch(`predict?${query}`, { method: "POST", headers, body: file }).catch(
      () => {
        throw new ServerError(0);
      },
    );
    if (response.ok) return response;
    if (response.status !== 429) {
      const { error } = await response.json().catch(() => ({}));
      throw new ServerError(response.status, error);
    }
    const seconds = Math.min(LONGEST_WAIT, Number(response.headers.get("Retry-After")) || 1);
    onBusy(seconds);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}
