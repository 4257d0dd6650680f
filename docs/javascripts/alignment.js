// The output size of every layer of an FCN and every crop, for any image size. The numbers follow
// from the layers' kernels, strides and paddings as in keras_fcn/alignment/maps.py. All offsets are
// multiples of 0.5, which floating point represents exactly.
(() => {
  const { element, mount, table, words } = window.fcnFigure;

  const SKIPS = { fcn32s: [], fcn16s: ["pool4"], fcn8s: ["pool4", "pool3"] };
  const NAMES = { fcn32s: "FCN-32s", fcn16s: "FCN-16s", fcn8s: "FCN-8s" };
  const CONVOLUTIONS = [2, 2, 3, 3, 3];
  const LARGEST = 4096;

  const text = words({
    en: {
      height: "Image height",
      width: "Image width",
      padding: "Padding",
      paper: "paper: pad the image by 100",
      same: "same: pad pool5 by 3",
      model: "Model",
      invalid: `Height and width must be whole numbers from 1 to ${LARGEST}.`,
      summary: (model, height, width, offsets) =>
        `${model}, image ${height} × ${width}: crop offsets ${offsets.join(", ")}.`,
      layers: "Output size of every layer",
      layerHeads: ["layer", "height × width", "output stride", "image coordinate of pixel 0", "operation"],
      crops: "Crops",
      cropHeads: ["feature maps to align", "crop offset", "cropped layer", "size before", "size after"],
      at: { fuse_pool4: "skip from pool4", fuse_pool3: "skip from pool3", logits: "logits and image" },
      drawing:
        "Position of each feature map along the image's height. Dark: kept pixels. Pale: cropped " +
        "pixels. Dashed lines: image edges.",
      image: "the image",
      pad: (n) => `zero padding of ${n} pixels on each side`,
      convolutions: (n) => `${n} convolutions 3×3, padding 1`,
      pool: "max pooling 2×2, size rounded up",
      convolution: (k, p) => `convolution ${k}×${k}, padding ${p}`,
      upsample: (k, s) => `transposed convolution ${k}×${k}, stride ${s}`,
      score: "convolution 1×1: one score per class",
      crop: (n) => `crop ${n} pixels at the top and left, the rest at the bottom and right`,
      add: "sum of the two",
    },
    ko: {
      height: "이미지 높이",
      width: "이미지 너비",
      padding: "패딩",
      paper: "paper: 이미지에 패딩 100",
      same: "same: pool5에 패딩 3",
      model: "모델",
      invalid: `높이와 너비는 1부터 ${LARGEST}까지의 정수여야 합니다.`,
      summary: (model, height, width, offsets) =>
        `${model}, 이미지 ${height} × ${width}: 자르기 오프셋(crop offset) ${offsets.join(", ")}.`,
      layers: "모든 층의 출력 크기",
      layerHeads: ["층", "높이 × 너비", "출력 스트라이드", "픽셀 0의 이미지 좌표", "연산"],
      crops: "자르기",
      cropHeads: ["정렬할 두 특징 맵", "자르기 오프셋", "잘리는 층", "자르기 전 크기", "자른 뒤 크기"],
      at: { fuse_pool4: "pool4의 스킵 연결", fuse_pool3: "pool3의 스킵 연결", logits: "로짓과 이미지" },
      drawing:
        "이미지의 높이 방향에서 본 각 특징 맵의 위치입니다. 진한 부분은 남는 픽셀, 옅은 부분은 " +
        "잘려 나가는 픽셀, 점선은 이미지의 가장자리입니다.",
      image: "이미지",
      pad: (n) => `네 변에 제로 패딩 ${n}픽셀`,
      convolutions: (n) => `3×3 합성곱 ${n}개, 패딩 1`,
      pool: "2×2 최대 풀링, 크기는 올림",
      convolution: (k, p) => `${k}×${k} 합성곱, 패딩 ${p}`,
      upsample: (k, s) => `${k}×${k} 전치 합성곱, 스트라이드 ${s}`,
      score: "1×1 합성곱: 클래스마다 점수 하나",
      crop: (n) => `위와 왼쪽에서 ${n}픽셀을, 아래와 오른쪽에서 나머지를 잘라 냄`,
      add: "둘의 합",
    },
  });

  // Output coordinate o of a layer maps to input coordinate scale * o + offset.
  const convolution = (kernel, stride, padding) => ({
    scale: stride,
    offset: (kernel - 1) / 2 - padding,
  });
  const transposed = (kernel, stride) => ({ scale: 1 / stride, offset: -(kernel - 1) / 2 / stride });
  const then = (path, layer) => ({
    scale: path.scale * layer.scale,
    offset: path.scale * layer.offset + path.offset,
  });

  // The layers of a model along one axis of the image, and its crops.
  function compute(size, model, padding) {
    const layers = [];
    const crops = [];
    const add = (name, what, layerSize, map) => {
      const layer = { name, what, size: layerSize, map };
      layers.push(layer);
      return layer;
    };
    // A negative offset crops the upsampled map instead of its reference.
    const crop = (at, cropped, reference, offset, name) => {
      const start = Math.abs(offset);
      const map = then(cropped.map, { scale: 1, offset: start });
      const kept = Math.min(reference.size, cropped.size - start);
      crops.push({ at, offset, name: cropped.name, before: cropped.size, after: kept });
      cropped.kept = add(name, text.crop(start), kept, map);
      return cropped.kept;
    };

    const image = add("image", text.image, size, { scale: 1, offset: 0 });
    let x = image;
    if (padding === "paper") {
      // The paper's 100 is 99 here plus the 1 of block1_conv1.
      x = add("input_padding", text.pad(99), size + 198, { scale: 1, offset: -99 });
    }
    const pools = {};
    CONVOLUTIONS.forEach((count, index) => {
      const block = `block${index + 1}`;
      add(`${block}_conv${count}`, text.convolutions(count), x.size, x.map);
      const map = then(x.map, convolution(2, 2, 0));
      x = add(`${block}_pool`, text.pool, Math.ceil(x.size / 2), map);
      pools[`pool${index + 1}`] = x;
    });
    const fc6Padding = padding === "paper" ? 0 : 3;
    const fc6Map = then(x.map, convolution(7, 1, fc6Padding));
    x = add("fc6", text.convolution(7, fc6Padding), x.size - 6 + 2 * fc6Padding, fc6Map);
    x = add("fc7", text.convolution(1, 0), x.size, x.map);
    x = add("score_fr", text.score, x.size, x.map);

    let upsampling = "upscore2";
    for (const pool of SKIPS[model]) {
      const upMap = then(x.map, transposed(4, 2));
      let up = add(upsampling, text.upsample(4, 2), 2 * x.size + 2, upMap);
      let skip = add(`score_${pool}`, text.score, pools[pool].size, pools[pool].map);
      const offset = (up.map.offset - skip.map.offset) / skip.map.scale;
      if (offset >= 0) {
        skip = crop(`fuse_${pool}`, skip, up, offset, `crop_score_${pool}`);
      } else {
        up = crop(`fuse_${pool}`, up, skip, offset, `crop_${upsampling}`);
      }
      x = add(`fuse_${pool}`, text.add, up.size, up.map);
      upsampling = `upscore_${pool}`;
    }
    const stride = x.map.scale;
    const last = stride === 32 ? "upscore" : `upscore${stride}`;
    const lastMap = then(x.map, transposed(2 * stride, stride));
    const up = add(last, text.upsample(2 * stride, stride), stride * (x.size + 1), lastMap);
    crop("logits", up, image, -up.map.offset, "crop_logits");
    return { layers, crops };
  }

  // Bars along the image's height for the aligned feature maps, with the kept part of each.
  function draw(layers, size) {
    const wanted = ["image", "input_padding", "block5_pool", "score_fr"];
    const rows = layers.filter(
      ({ name }) =>
        wanted.includes(name) || /^(upscore|score_pool)/.test(name) || name === "crop_logits",
    );
    const span = ({ map, size: n }) => [
      map.offset - map.scale / 2,
      map.offset + (n - 0.5) * map.scale,
    ];
    const ends = rows.flatMap(span);
    const [first, last] = [Math.min(...ends), Math.max(...ends)];
    const left = 104;
    const width = 340;
    const place = (x) => left + ((x - first) / (last - first)) * width;
    const bar = ([from, to], row, kind) =>
      element("rect", {
        class: kind,
        x: place(from),
        y: 22 * row + 8,
        width: Math.max(place(to) - place(from), 1),
        height: 12,
      });
    const svg = element("svg", {
      viewBox: `0 0 ${left + width + 6} ${22 * rows.length + 10}`,
      role: "img",
      "aria-label": text.drawing,
    });
    rows.forEach((layer, row) => {
      svg.append(element("text", { x: 0, y: 22 * row + 18 }, layer.name));
      svg.append(bar(span(layer), row, layer.kept ? "fcn-cropped" : "fcn-kept"));
      if (layer.kept) svg.append(bar(span(layer.kept), row, "fcn-kept"));
    });
    for (const edge of [-0.5, size - 0.5]) {
      const x = place(edge);
      svg.append(
        element("line", { class: "fcn-edge", x1: x, x2: x, y1: 2, y2: 22 * rows.length + 6 }),
      );
    }
    return svg;
  }

  function build(root) {
    const number = (key) =>
      element("input", {
        type: "number",
        min: 1,
        max: LARGEST,
        step: 1,
        name: key,
        value: root.dataset[key] || { height: 375, width: 500 }[key],
      });
    const select = (key, options) => {
      const control = element("select", { name: key });
      for (const [value, name] of Object.entries(options)) {
        control.append(element("option", { value }, name));
      }
      control.value = root.dataset[key] || Object.keys(options)[0];
      return control;
    };
    const controls = {
      height: number("height"),
      width: number("width"),
      padding: select("padding", { paper: text.paper, same: text.same }),
      model: select("model", { fcn8s: NAMES.fcn8s, fcn16s: NAMES.fcn16s, fcn32s: NAMES.fcn32s }),
    };
    const output = element("output", { "aria-live": "polite" });
    const results = element("div");

    function update() {
      const sizes = [controls.height, controls.width].map((input) => {
        const value = Number(input.value);
        const valid = Number.isInteger(value) && value >= 1 && value <= LARGEST;
        input.setAttribute("aria-invalid", String(!valid));
        return valid ? value : null;
      });
      if (sizes.includes(null)) {
        output.textContent = text.invalid;
        results.replaceChildren();
        return;
      }
      const [height, width] = sizes;
      const model = controls.model.value;
      const [rows, columns] = sizes.map((size) => compute(size, model, controls.padding.value));
      const offsets = rows.crops.map((crop) => String(crop.offset).replace("-", "−"));
      output.textContent = text.summary(NAMES[model], height, width, offsets);

      const cells = (values, numbers) =>
        values.map((value, index) =>
          element(
            "td",
            { class: numbers.includes(index) ? "fcn-number" : "fcn-text" },
            String(value),
          ),
        );
      const sizeTable = table(
        text.layers,
        text.layerHeads,
        rows.layers.map((layer, index) =>
          element(
            "tr",
            { "data-layer": layer.name },
            element("th", { scope: "row" }, element("code", {}, layer.name)),
            ...cells(
              [
                `${layer.size} × ${columns.layers[index].size}`,
                layer.map.scale,
                String(layer.map.offset).replace("-", "−"),
                layer.what,
              ],
              [0, 1, 2],
            ),
          ),
        ),
      );
      const cropTable = table(
        text.crops,
        text.cropHeads,
        rows.crops.map((crop, index) =>
          element(
            "tr",
            { "data-crop": crop.at },
            element("th", { scope: "row" }, text.at[crop.at]),
            ...cells(
              [
                offsets[index],
                crop.name,
                `${crop.before} × ${columns.crops[index].before}`,
                `${crop.after} × ${columns.crops[index].after}`,
              ],
              [0, 2, 3],
            ),
          ),
        ),
      );
      results.replaceChildren(
        cropTable,
        element("p", {}, text.drawing),
        draw(rows.layers, height),
        sizeTable,
      );
    }

    mount(root, text, controls, update, output, results);
  }

  document.querySelectorAll(".fcn-alignment").forEach(build);
})();
