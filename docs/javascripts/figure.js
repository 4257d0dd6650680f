// What the figures share: elements, and words in the page's language.
window.fcnFigure = {
  element(name, attributes = {}, ...children) {
    const isSvg = ["svg", "rect", "line", "text", "title", "g"].includes(name);
    const element = isSvg
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  },

  words(languages) {
    return languages[document.documentElement.lang] || languages.en;
  },

  // A table in a region of its own that scrolls by keyboard where it is too wide.
  table(caption, heads, rows) {
    const { element } = window.fcnFigure;
    const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
    const table = element(
      "table",
      { class: "fcn-table" },
      element("caption", {}, caption),
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    );
    return element(
      "div",
      { class: "fcn-scroll", tabindex: "0", role: "region", "aria-label": caption },
      table,
    );
  },

  // Fills the figure with its labelled controls and its outputs, and keeps these current.
  mount(root, text, controls, update, ...outputs) {
    const { element } = window.fcnFigure;
    const form = element(
      "div",
      { class: "fcn-controls" },
      ...Object.entries(controls).map(([key, control]) => element("label", {}, text[key], control)),
    );
    form.addEventListener("input", update);
    root.classList.add("fcn-figure");
    root.replaceChildren(form, ...outputs);
    update();
  },
};
