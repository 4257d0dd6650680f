// Tables and formulas that are wider than the page scroll; this lets the keyboard scroll them, too.
(() => {
  function mark() {
    for (const region of document.querySelectorAll(".md-typeset__scrollwrap, .fcn-formula")) {
      if (region.scrollWidth > region.clientWidth) region.setAttribute("tabindex", "0");
      else region.removeAttribute("tabindex");
    }
  }
  addEventListener("load", mark);
  addEventListener("resize", mark);
})();
