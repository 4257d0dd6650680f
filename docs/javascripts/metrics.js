// The paper's four metrics, computed from an editable confusion matrix as in keras_fcn/metrics.py.
(() => {
  const { element, table, words } = window.fcnFigure;

  const LARGEST = 1e9;

  const text = words({
    en: {
      matrix: "Confusion matrix: rows are the ground truth, columns the prediction, in pixels",
      cell: (truth, prediction) => `pixels of ${truth} predicted as ${prediction}`,
      truth: "ground truth",
      predicted: (name) => `predicted ${name}`,
      ignored: "Pixels labelled ignore_class",
      ignoredNote: "Ignored pixels have no ground truth class. They are in no row and change no metric.",
      invalid: "Every number of pixels must be an integer of at least 0.",
      scores: "The four metrics",
      scoreHeads: ["metric", "value", "calculation"],
      classes: "Per class",
      classHeads: ["class", "ground truth pixels", "accuracy (recall)", "IoU"],
      names: {
        pixel_accuracy: "pixel accuracy",
        mean_accuracy: "mean accuracy",
        mean_iou: "mean IoU",
        frequency_weighted_iou: "frequency-weighted IoU",
      },
    },
    ko: {
      matrix: "혼동 행렬(confusion matrix): 행은 정답, 열은 예측, 단위는 픽셀",
      cell: (truth, prediction) => `${prediction}(으)로 예측된 ${truth} 픽셀 수`,
      truth: "정답",
      predicted: (name) => `예측: ${name}`,
      ignored: "ignore_class로 표시된 픽셀",
      ignoredNote: "정답 클래스가 없는 픽셀입니다. 어느 행에도 들어가지 않으며 어떤 지표도 바꾸지 않습니다.",
      invalid: "픽셀 수는 모두 0 이상의 정수여야 합니다.",
      scores: "네 가지 평가 지표",
      scoreHeads: ["지표", "값", "계산"],
      classes: "클래스별",
      classHeads: ["클래스", "정답 픽셀 수", "정확도(재현율)", "IoU"],
      names: {
        pixel_accuracy: "픽셀 정확도(pixel accuracy)",
        mean_accuracy: "평균 정확도(mean accuracy)",
        mean_iou: "평균 IoU(mean IoU)",
        frequency_weighted_iou: "빈도 가중 IoU(frequency-weighted IoU)",
      },
    },
  });

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  function compute(matrix) {
    const right = matrix.map((row, index) => row[index]);
    const truth = matrix.map(sum);
    const predicted = matrix.map((_, column) => sum(matrix.map((row) => row[column])));
    const union = truth.map((pixels, index) => pixels + predicted[index] - right[index]);
    const ratios = (pixels) => right.map((n, i) => (pixels[i] ? n / pixels[i] : null));
    const mean = (values) => {
      const present = values.filter((value) => value !== null);
      return present.length ? sum(present) / present.length : 0;
    };
    const all = sum(truth);
    const accuracy = ratios(truth);
    const iou = ratios(union);
    const fractions = (pixels) => {
      const present = right.map((n, i) => pixels[i] && `${n}/${pixels[i]}`).filter(Boolean);
      return present.length ? `(${present.join(" + ")}) / ${present.length}` : "";
    };
    const weighted = truth.map((n, i) => n && `${n}·${right[i]}/${union[i]}`).filter(Boolean);
    return {
      classes: truth.map((pixels, i) => ({ pixels, accuracy: accuracy[i], iou: iou[i] })),
      scores: {
        pixel_accuracy: [all ? sum(right) / all : 0, `${sum(right)} / ${all}`],
        mean_accuracy: [mean(accuracy), fractions(truth)],
        mean_iou: [mean(iou), fractions(union)],
        frequency_weighted_iou: [
          all ? sum(truth.map((pixels, i) => (pixels ? pixels * iou[i] : 0))) / all : 0,
          weighted.length ? `(${weighted.join(" + ")}) / ${all}` : "",
        ],
      },
    };
  }

  function build(root) {
    const names = (root.dataset.classes || "road,car,tree").split(",");
    const start = JSON.parse(root.dataset.matrix || "[[50, 3, 1], [4, 20, 0], [2, 1, 19]]");
    const number = (value, label) =>
      element("input", { type: "number", min: 0, max: LARGEST, step: 1, value, "aria-label": label });
    const inputs = start.map((row, i) =>
      row.map((value, j) => number(value, text.cell(names[i], names[j]))),
    );
    const editor = table(
      text.matrix,
      [text.truth, ...names.map(text.predicted)],
      inputs.map((row, i) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, names[i]),
          ...row.map((input) => element("td", {}, input)),
        ),
      ),
    );
    const ignored = number(root.dataset.ignored || 12, text.ignored);
    const output = element("output", { "aria-live": "polite" });
    const results = element("div");

    function update() {
      let valid = true;
      const read = (input) => {
        const value = Number(input.value);
        const isCount = input.value !== "" && Number.isInteger(value) && value >= 0 && value <= LARGEST;
        input.setAttribute("aria-invalid", String(!isCount));
        valid = valid && isCount;
        return value;
      };
      const matrix = inputs.map((row) => row.map(read));
      read(ignored);
      if (!valid) {
        output.textContent = text.invalid;
        results.replaceChildren();
        return;
      }
      const { classes, scores } = compute(matrix);
      const shown = (value) => (value === null ? "–" : value.toFixed(4));
      const said = Object.entries(scores).map(([name, [value]]) => `${text.names[name]} ${shown(value)}`);
      output.textContent = `${said.join(", ")}.`;
      const cell = (value, isNumber) =>
        element("td", isNumber ? { class: "fcn-number" } : {}, String(value));
      results.replaceChildren(
        table(
          text.scores,
          text.scoreHeads,
          Object.entries(scores).map(([name, [value, worked]]) =>
            element(
              "tr",
              { "data-score": name, "data-value": value },
              element("th", { scope: "row" }, text.names[name]),
              cell(shown(value), true),
              cell(worked),
            ),
          ),
        ),
        table(
          text.classes,
          text.classHeads,
          classes.map(({ pixels, accuracy, iou }, i) =>
            element(
              "tr",
              { "data-class": i },
              element("th", { scope: "row" }, names[i]),
              cell(pixels, true),
              cell(shown(accuracy), true),
              cell(shown(iou), true),
            ),
          ),
        ),
      );
    }

    const remark = element(
      "p",
      { class: "fcn-ignored" },
      element("label", {}, text.ignored, ignored),
      element("span", {}, text.ignoredNote),
    );
    root.classList.add("fcn-figure");
    root.replaceChildren(editor, remark, output, results);
    root.addEventListener("input", update);
    update();
  }

  document.querySelectorAll(".fcn-metrics").forEach(build);
})();
