/* The page: the photos, which of them is shown, and what the visitor does. */

import { closeCamera, hasCamera, openCamera, shoot } from "./camera.js";
import { draw, parsed } from "./drawing.js";
import { element, showClasses, showModel, showSizes } from "./panel.js";
import { ServerError, modelOfServer, polygons, predict } from "./server.js";
import { applyTexts, currentLanguage, errorText, percent, setLanguage, text } from "./texts.js";

const THUMBNAIL = 96;
// With a copy of this side a prediction fits where the photo's own size does not.
const SMALL_SIDE = 512;
const TOO_LARGE = [413, 503];

const byId = (id) => document.getElementById(id);
const items = [];
const hidden = new Set();
let model, colours, shown, wanted, working;

/** Says what happens; visibly where a photo has no result yet. */
function announce(sentence) {
  byId("status").textContent = sentence;
  if (shown?.state === "predicting") byId("readout").textContent = sentence;
}

// The photos.

async function add(files) {
  const added = files.map((file) => ({ file, name: file.name || "photo", state: "waiting" }));
  for (const item of added) item.thumbnail = await thumbnail(item);
  items.push(...added);
  await select(added[0] ?? shown);
  work();
}

/** Shows a photo. Only the shown one is held decoded: some would fill the memory. */
async function select(item) {
  wanted = item;
  const photo = item && (await decoded(item));
  if (wanted !== item) {
    photo?.close();
    return;
  }
  shown?.photo?.close();
  if (shown) shown.photo = null;
  shown = item;
  if (item) item.photo = photo;
  render();
}

/** Upright, as its EXIF orientation says; null for a format that the browser does not show. */
function decoded({ file }) {
  return createImageBitmap(file).catch(() => null);
}

async function thumbnail(item) {
  const canvas = element("canvas", { width: THUMBNAIL, height: THUMBNAIL });
  const photo = await decoded(item);
  if (!photo) return canvas;
  const scale = THUMBNAIL / Math.min(photo.width, photo.height);
  const [width, height] = [photo.width * scale, photo.height * scale];
  const place = [(THUMBNAIL - width) / 2, (THUMBNAIL - height) / 2, width, height];
  canvas.getContext("2d").drawImage(photo, ...place);
  photo.close();
  return canvas;
}

/** Predicts the photos that wait, the shown one first, one after the other. */
async function work() {
  if (working) return;
  working = true;
  for (;;) {
    const isWaiting = (item) => item?.state === "waiting";
    const item = isWaiting(shown) ? shown : items.find(isWaiting);
    if (!item) break;
    item.state = "predicting";
    announce(text("predicting"));
    render();
    await predictItem(item);
    if (item === shown) render();
    else renderStrip();
  }
  working = false;
}

async function predictItem(item) {
  const side = item.side ?? byId("size").value;
  const asked = item.generation;
  try {
    if (item.file.size > model.max_bytes) throw new ServerError(413);
    const result = await predict(item.file, side, (seconds) => announce(text("busy", seconds)));
    if (item.generation !== asked) return;
    Object.assign(item, { result, error: null, state: "done", predictedSide: side });
    const largest = result.classes.slice(0, 3).map(({ name, share }) => `${name} ${percent(share)}`);
    announce(text("done", item.name, largest.join(", ")));
  } catch (error) {
    if (item.generation !== asked) return;
    if (!(error instanceof ServerError)) throw error;
    Object.assign(item, { result: null, error, state: "failed" });
    announce(text("failed", item.name));
  }
}

function again(item, side) {
  Object.assign(item, { state: "waiting", side, error: null, result: null });
  item.generation = (item.generation ?? 0) + 1;
}

// What is shown.

function render() {
  byId("intake").hidden = items.length > 0;
  byId("work").hidden = !items.length;
  renderStrip();
  if (!shown) return;
  renderCanvas();
  renderError();
  showClasses(model, shown.result, hidden);
  byId("photo-name").textContent = shown.name;
  byId("progress").hidden = !["waiting", "predicting"].includes(shown.state);
  byId("readout").textContent = facts(shown);
  for (const button of document.querySelectorAll(".downloads button")) {
    button.disabled = !shown.result;
  }
}

function renderCanvas() {
  const view = document.querySelector("[name=view]:checked").value;
  const opacity = byId("opacity").value / 100;
  byId("opacity-value").textContent = percent(opacity, 0);
  draw(byId("canvas"), shown, { view, opacity, hidden, colours });
  byId("canvas").setAttribute("aria-label", text("picture", shown.name));
}

function renderError() {
  const { error } = shown;
  byId("error").hidden = !error;
  document.querySelector(".picture").hidden = Boolean(error) && !shown.photo;
  byId("error-lead").textContent = error ? errorText(error.status) : "";
  byId("error-sentence").textContent = error?.message ?? "";
  byId("retry").textContent = TOO_LARGE.includes(error?.status)
    ? text("retrySmaller", SMALL_SIDE)
    : text("retry");
}

function renderStrip() {
  const focused = document.activeElement?.closest("#strip") && document.activeElement.dataset.index;
  const entries = items.map((item, index) => {
    const button = element("button", { type: "button", title: item.name }, item.thumbnail);
    button.dataset.index = index;
    button.dataset.state = item.state;
    button.setAttribute("aria-label", item.name);
    button.setAttribute("aria-current", item === shown);
    return element("li", {}, button);
  });
  byId("strip").replaceChildren(...entries);
  byId("strip").querySelector(`[data-index="${focused}"]`)?.focus();
}

function facts({ result, state }) {
  if (state === "waiting") return text("waiting");
  if (state === "predicting") return byId("status").textContent;
  if (!result) return "";
  const predicted = `${result.predicted_width}×${result.predicted_height}`;
  const seconds = new Intl.NumberFormat(currentLanguage(), { maximumFractionDigits: 1 });
  const size = `${result.width}×${result.height}`;
  const found = text("facts", size, predicted, seconds.format(result.seconds));
  return result.is_first_of_several ? `${found}, ${text("firstOfSeveral")}` : found;
}

function pointAt(event) {
  const { labelMap, confidenceMap } = shown?.result ?? {};
  if (!labelMap) return;
  const box = byId("canvas").getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * labelMap.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * labelMap.height);
  if (x < 0 || y < 0 || x >= labelMap.width || y >= labelMap.height) return;
  const index = y * labelMap.width + x;
  const confidence = percent(confidenceMap.values[index] / 255);
  byId("readout").textContent = text("readout", model.classes[labelMap.values[index]].name, confidence);
}

// Files to keep.

function save(blob, suffix) {
  const link = element("a", { href: URL.createObjectURL(blob) });
  link.download = shown.name.replace(/\.[^.]*$/, "") + suffix;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function savePolygons() {
  const { file, predictedSide } = shown;
  try {
    save(await polygons(file, predictedSide, (seconds) => announce(text("busy", seconds))), ".geojson");
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    shown.error = error;
    renderError();
  }
}

// What the visitor does.

const ACTIONS = {
  choose: () => byId("file").click(),
  camera: openCamera,
  shoot: async () => add([await shoot()]),
  closeCamera,
  async remove() {
    const index = items.indexOf(shown);
    items.splice(index, 1);
    await select(items[Math.min(index, items.length - 1)]);
    document.querySelector("#work:not([hidden]) [aria-current=true], #intake button").focus();
  },
  retry() {
    again(shown, TOO_LARGE.includes(shown.error.status) ? SMALL_SIDE : shown.side);
    render();
    work();
  },
  all: () => show(() => hidden.clear()),
  none: () => show(() => model.classes.forEach(({ id }) => hidden.add(id))),
  labelMap: () => save(shown.result.file, ".png"),
  overlay: () => byId("canvas").toBlob((blob) => save(blob, "_overlay.png")),
  polygons: savePolygons,
};

function show(change) {
  change();
  showClasses(model, shown.result, hidden);
  renderCanvas();
}

function listen() {
  document.addEventListener("click", (event) => {
    const { action, language, index } = event.target.closest("button")?.dataset ?? {};
    if (action) ACTIONS[action]();
    if (language) changeLanguage(language);
    if (index) select(items[index]);
  });
  for (const id of ["file", "phone-camera"]) {
    byId(id).addEventListener("change", (event) => {
      add([...event.target.files]);
      event.target.value = "";
    });
  }
  byId("classes").addEventListener("change", ({ target }) => {
    const id = Number(target.value);
    if (target.checked) hidden.delete(id);
    else hidden.add(id);
    renderCanvas();
  });
  document.querySelector(".choices").addEventListener("change", renderCanvas);
  byId("opacity").addEventListener("input", renderCanvas);
  byId("size").addEventListener("change", () => {
    items.forEach((item) => again(item));
    render();
    work();
  });
  byId("canvas").addEventListener("pointermove", pointAt);
  byId("canvas").addEventListener("pointerleave", () => shown && (byId("readout").textContent = facts(shown)));
  listenForFiles();
}

function listenForFiles() {
  const images = (data) => [...(data?.files ?? [])];
  let depth = 0;
  const marked = (change) => {
    depth = change ? depth + change : 0;
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", () => marked(1));
  addEventListener("dragleave", () => marked(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    marked(0);
    add(images(event.dataTransfer));
  });
  addEventListener("paste", (event) => add(images(event.clipboardData)));
}

function changeLanguage(name) {
  setLanguage(name);
  applyTexts();
  showModel(model);
  showSizes(model, byId("size").value);
  render();
}

applyTexts();
model = await modelOfServer();
colours = model.classes.map(({ colour }) => parsed(colour));
byId("file").accept = model.image_types.join();
for (const button of document.querySelectorAll("[data-action=camera]")) button.hidden = !hasCamera;
document.querySelector("[data-action=polygons]").hidden = !model.answer_types.includes(
  "application/geo+json",
);
showModel(model);
showSizes(model);
listen();
