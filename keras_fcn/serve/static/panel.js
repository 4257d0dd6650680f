/* The table of classes, and what else stands beside the photo. */

import { percent, text } from "./texts.js";

const SIDES = [512, 1024, 2048, 4096];
const DEFAULT_SIDE = 1024;
const MAX_ABSENT = 12;

const byId = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function swatch(colour) {
  const made = element("span", { className: "swatch" });
  made.style.backgroundColor = colour;
  return made;
}

/** Fills what depends on the model alone. */
export function showModel(model) {
  document.title = `${model.name} · keras_fcn`;
  byId("name").textContent = model.name;
  byId("summary").textContent = text("summary", model.classes.length);
  byId("version").textContent = `keras_fcn ${model.version}`;
  const known = model.classes.map(({ name, colour }) => element("li", {}, swatch(colour), name));
  byId("known").replaceChildren(...known);
  byId("license").replaceChildren();
  if (model.license) {
    const links = model.sources.map((href) => element("a", { href, textContent: text("source") }));
    byId("license").append(text("license", model.license), ...links.flatMap((link) => [" ", link]));
  }
}

/** Fills the sizes to choose from, up to the server's own limit. */
export function showSizes(model, chosen) {
  const largest = model.max_side ?? Infinity;
  const sides = [...SIDES.filter((side) => side < largest), ...(model.max_side ? [largest] : [])];
  const options = sides.map((side) => new Option(text("sizeOf", side), side));
  if (!model.max_side) options.push(new Option(text("sizeWhole"), ""));
  byId("size").replaceChildren(...options);
  byId("size").value = chosen ?? Math.min(DEFAULT_SIDE, largest);
}

/** Fills the table with the classes of a result, the largest first, and the bar above it. */
export function showClasses(model, result, hidden) {
  const colours = model.classes.map(({ colour }) => colour);
  const classes = result?.classes ?? [];
  const segments = classes.map(({ id, share }) => {
    const segment = element("span");
    segment.style.flexGrow = share;
    segment.style.backgroundColor = colours[id];
    return segment;
  });
  byId("shares").replaceChildren(...segments);
  const rows = classes.map((found) => row(found, colours[found.id], hidden.has(found.id)));
  byId("classes").tBodies[0].replaceChildren(...rows);
  byId("whole").textContent = percent(1);
  byId("mean").textContent = result ? percent(result.confidence) : "";
  const present = new Set(classes.map(({ id }) => id));
  const absent = model.classes.filter(({ id }) => !present.has(id)).map(({ name }) => name);
  const shown = absent.slice(0, MAX_ABSENT).join(", ") + (absent.length > MAX_ABSENT ? ", …" : "");
  byId("absent").textContent = text("absent", shown);
  byId("absent").hidden = !result || !absent.length;
  byId("panel").classList.toggle("empty", !result);
}

function row({ id, name, share, confidence }, colour, isHidden) {
  const box = element("input", { type: "checkbox", checked: !isHidden, value: id });
  const label = element("label", {}, box, swatch(colour), element("span", { textContent: name }));
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, label),
    element("td", { textContent: percent(share) }),
    element("td", { textContent: percent(confidence) }),
  );
}
