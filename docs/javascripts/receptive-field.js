// What one output pixel of VGG-16 sees: its window in the image and in every feature map. A window
// from a to b in a layer's output is the window from s a - p to s b - p + k - 1 in its input.
(() => {
  const { element, mount, table, words } = window.fcnFigure;

  const CONVOLUTIONS = [2, 2, 3, 3, 3];
  const LARGEST = 2048;

  const text = words({
    en: {
      height: "Image height",
      width: "Image width",
      padding: "Padding",
      paper: "paper: pad the image by 100",
      same: "same: pad pool5 by 3",
      layer: "Layer of the output pixel",
      row: "Row of the output pixel",
      column: "Column of the output pixel",
      image: "image",
      invalid: (limits) =>
        `Height and width must be whole numbers from 1 to ${LARGEST}, the row one from 0 to ` +
        `${limits[0]}, the column one from 0 to ${limits[1]}.`,
      summary: (name, place, rows, columns, inside) =>
        `Pixel (${place.join(", ")}) of ${name} sees ${size(rows)} × ${size(columns)} pixels: rows ` +
        `${range(rows)}, columns ${range(columns)}. ${inside.join(" × ")} of them lie in the image.`,
      caption: "Window of the output pixel in every feature map",
      heads: ["feature map", "height × width", "rows of the window", "columns", "window"],
      drawing: "Faint: the feature map. Strong: the window. Dashed: the image. Click to choose a pixel.",
      panel: (name) => `Window in ${name}`,
      to: "to",
    },
    ko: {
      height: "이미지 높이",
      width: "이미지 너비",
      padding: "패딩",
      paper: "paper: 이미지에 패딩 100",
      same: "same: pool5에 패딩 3",
      layer: "출력 픽셀의 층",
      row: "출력 픽셀의 행",
      column: "출력 픽셀의 열",
      image: "이미지",
      invalid: (limits) =>
        `높이와 너비는 1부터 ${LARGEST}까지, 행은 0부터 ${limits[0]}까지, 열은 0부터 ${limits[1]}까지의 ` +
        "정수여야 합니다.",
      summary: (name, place, rows, columns, inside) =>
        `${name}의 픽셀 (${place.join(", ")})은 ${size(rows)} × ${size(columns)} 픽셀을 봅니다. 행 ` +
        `${range(rows)}, 열 ${range(columns)}이며 그중 ${inside.join(" × ")}이 이미지 안에 있습니다.`,
      caption: "모든 특징 맵에서 출력 픽셀의 창",
      heads: ["특징 맵", "높이 × 너비", "창의 행", "창의 열", "창의 크기"],
      drawing:
        "옅은 부분은 특징 맵, 진한 부분은 창, 점선은 이미지입니다. 클릭하면 출력 픽셀을 고릅니다.",
      panel: (name) => `${name}에서의 창`,
      to: "~",
    },
  });

  const signed = (number) => String(number).replace("-", "−");
  const range = ([from, to]) => `${signed(from)} ${text.to} ${signed(to)}`;
  const size = ([from, to]) => to - from + 1;

  // The feature maps along one axis, each with the layers that lead to it from the one before.
  // Pixel o lies at stride * o + offset of the image.
  function featureMaps(imageSize, padding) {
    const maps = [{ name: text.image, size: imageSize, stride: 1, offset: 0, layers: [] }];
    const add = (name, layers, mapSize) => {
      let { stride, offset } = maps[maps.length - 1];
      for (const [kernel, step, pad] of layers) {
        offset += stride * ((kernel - 1) / 2 - pad);
        stride *= step;
      }
      maps.push({ name, size: mapSize, stride, offset, layers });
    };
    // The paper's 100 is 99 here plus the 1 of block1_conv1.
    let pixels = imageSize + (padding === "paper" ? 198 : 0);
    CONVOLUTIONS.forEach((count, index) => {
      const layers = [...Array(count).fill([3, 1, 1]), [2, 2, 0]];
      if (index === 0 && padding === "paper") layers.unshift([1, 1, 99]);
      pixels = Math.ceil(pixels / 2);
      add(`pool${index + 1}`, layers, pixels);
    });
    const fc6Padding = padding === "paper" ? 0 : 3;
    add("fc6", [[7, 1, fc6Padding]], pixels - 6 + 2 * fc6Padding);
    return maps;
  }

  // The windows of pixel `place` of the last map, from the image on.
  function windowsOf(maps, place) {
    const windows = [[place, place]];
    for (let index = maps.length - 1; index > 0; index -= 1) {
      let [from, to] = windows[0];
      for (const [kernel, step, pad] of [...maps[index].layers].reverse()) {
        [from, to] = [step * from - pad, step * to - pad + kernel - 1];
      }
      windows.unshift([from, to]);
    }
    return windows;
  }

  // The edges of a range of pixels of a map, in pixels of the image.
  const edges = (map, [from, to]) => [
    map.stride * (from - 0.5) + map.offset,
    map.stride * (to + 0.5) + map.offset,
  ];

  function draw(name, [rowMap, columnMap], [rows, columns], [rowDomain, columnDomain], choose) {
    const [top, bottom] = rowDomain;
    const [left, right] = columnDomain;
    const svg = element("svg", {
      viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
      role: "img",
      "aria-label": text.panel(name),
    });
    const box = (kind, [y, yEnd], [x, xEnd]) =>
      svg.append(element("rect", { class: kind, x, y, width: xEnd - x, height: yEnd - y }));
    const whole = (map) => edges(map, [0, map.size - 1]);
    box("fcn-cropped", whole(rowMap), whole(columnMap));
    box("fcn-kept", edges(rowMap, rows), edges(columnMap, columns));
    svg.addEventListener("click", (event) => {
      const { x, y, width, height } = svg.getBoundingClientRect();
      choose(
        top + ((event.clientY - y) / height) * (bottom - top),
        left + ((event.clientX - x) / width) * (right - left),
      );
    });
    return [svg, box];
  }

  function build(root) {
    const number = (key, value, min, max) =>
      element("input", { type: "number", min, max, step: 1, name: key, value });
    const select = (key, options) => {
      const control = element("select", { name: key });
      for (const [value, name] of Object.entries(options)) {
        control.append(element("option", { value }, name));
      }
      return control;
    };
    const names = ["fc6", "pool5", "pool4", "pool3", "pool2", "pool1"];
    const controls = {
      layer: select("layer", Object.fromEntries(names.map((name) => [name, name]))),
      row: number("row", 5, 0, LARGEST),
      column: number("column", 7, 0, LARGEST),
      padding: select("padding", { same: text.same, paper: text.paper }),
      height: number("height", 360, 1, LARGEST),
      width: number("width", 480, 1, LARGEST),
    };
    const output = element("output", { "aria-live": "polite" });
    const results = element("div");
    const valid = (control, from, to) => {
      const value = Number(control.value);
      const fits =
        control.value !== "" && Number.isInteger(value) && value >= from && value <= to;
      control.setAttribute("aria-invalid", String(!fits));
      return fits;
    };

    function update() {
      const { layer, row, column, padding, height, width } = controls;
      const sized = [height, width].map((control) => valid(control, 1, LARGEST));
      const axes = [height, width].map((control, axis) => {
        const maps = featureMaps(sized[axis] ? Number(control.value) : 1, padding.value);
        return maps.slice(0, maps.findIndex(({ name }) => name === layer.value) + 1);
      });
      const limits = axes.map((maps) => maps[maps.length - 1].size - 1);
      const placed = [row, column].map((control, axis) => valid(control, 0, limits[axis]));
      if ([...sized, ...placed].includes(false)) {
        output.textContent = text.invalid(limits);
        results.replaceChildren();
        return;
      }
      const place = [Number(row.value), Number(column.value)];
      const windows = axes.map((maps, axis) => windowsOf(maps, place[axis]));
      const [rows, columns] = windows.map(([first]) => first);
      const inside = axes.map(([{ size: pixels }], axis) => {
        const [from, to] = windows[axis][0];
        return Math.max(Math.min(to, pixels - 1) - Math.max(from, 0) + 1, 0);
      });
      output.textContent = text.summary(layer.value, place, rows, columns, inside);

      const domains = axes.map((maps, axis) => {
        const ends = maps.flatMap((map, index) => [
          ...edges(map, [0, map.size - 1]),
          ...edges(map, windows[axis][index]),
        ]);
        return [Math.min(...ends) - 4, Math.max(...ends) + 4];
      });
      const choose = (...coordinates) => {
        [row, column].forEach((control, axis) => {
          const { stride, offset } = axes[axis][axes[axis].length - 1];
          const nearest = Math.round((coordinates[axis] - offset) / stride);
          control.value = Math.min(Math.max(nearest, 0), limits[axis]);
        });
        update();
      };
      const panels = axes[0].map((map, index) => {
        const pair = axes.map((maps) => maps[index]);
        const seen = windows.map((found) => found[index]);
        const [svg, box] = draw(map.name, pair, seen, domains, choose);
        box("fcn-outline", ...axes.map(([image]) => edges(image, [0, image.size - 1])));
        return element("div", {}, svg, element("code", {}, map.name));
      });
      const lines = axes[0].map((map, index) => {
        const [seenRows, seenColumns] = windows.map((found) => found[index]);
        const cells = [
          axes.map((maps) => maps[index].size).join(" × "),
          range(seenRows),
          range(seenColumns),
          `${size(seenRows)} × ${size(seenColumns)}`,
        ];
        const key = index ? map.name : "image";
        return element(
          "tr",
          { "data-map": key },
          element("th", { scope: "row" }, index ? element("code", {}, map.name) : map.name),
          ...cells.map((cell) => element("td", { class: "fcn-number" }, cell)),
        );
      });
      results.replaceChildren(
        element("p", {}, text.drawing),
        element("div", { class: "fcn-panels" }, ...panels),
        table(text.caption, text.heads, lines),
      );
    }

    mount(root, text, controls, update, output, results);
  }

  document.querySelectorAll(".fcn-receptive-field").forEach(build);
})();
