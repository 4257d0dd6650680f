// Lays the second picture of a `.fcn-compare` over the first, and a slider over both that moves the
// boundary. Without this script they stand side by side.
for (const figure of document.querySelectorAll(".fcn-compare")) {
  const slider = figure.querySelector("input");
  const show = () => figure.style.setProperty("--fcn-share", slider.value / 100);
  slider.addEventListener("input", show);
  show();
  slider.hidden = false;
  figure.classList.add("fcn-compare--over");
}
