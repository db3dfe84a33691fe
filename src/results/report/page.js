(function () {
  "use strict";
  var root = document.documentElement, body = document.body;

  /* Theme: what the system asks for until the button is used. */
  function stored(value) {
    try {
      if (value) localStorage.setItem("lvsweep-theme", value);
      return localStorage.getItem("lvsweep-theme");
    } catch (e) { return null; }
  }
  function isDark() {
    var set = root.getAttribute("data-theme");
    return set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  if (stored()) root.setAttribute("data-theme", stored());
  var theme = document.createElement("button");
  function name() { theme.textContent = isDark() ? "Light" : "Dark"; }
  theme.addEventListener("click", function () {
    root.setAttribute("data-theme", isDark() ? "light" : "dark");
    stored(root.getAttribute("data-theme"));
    name();
  });
  name();
  document.querySelector("header").appendChild(theme);

  /* One trial in every figure and table: pointer or focus shows it, a click keeps it. */
  var shown = null, pinned = null;
  function mark(id, word, on) {
    document.querySelectorAll('[data-t="' + id + '"]').forEach(function (e) { e.classList.toggle(word, on); });
  }
  function show(id) {
    if (id === shown) return;
    if (shown !== null) mark(shown, "on", false);
    if (id !== null) mark(id, "on", true);
    body.classList.toggle("linked", id !== null);
    shown = id;
  }
  function trialOf(event) {
    var at = event.target.closest ? event.target.closest("[data-t]") : null;
    return at ? at.getAttribute("data-t") : null;
  }
  document.addEventListener("mouseover", function (event) { show(trialOf(event) || pinned); });
  document.addEventListener("focusin", function (event) { show(trialOf(event) || pinned); });
  document.addEventListener("click", function (event) {
    var id = trialOf(event);
    if (id === null && event.target.closest("button, a, summary")) return;
    if (pinned !== null) mark(pinned, "pinned", false);
    pinned = id === pinned ? null : id;
    if (pinned !== null) mark(pinned, "pinned", true);
    show(id === null ? null : pinned || id);
  });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") { if (pinned !== null) mark(pinned, "pinned", false); pinned = null; show(null); }
  });

  /* A figure as a file of its own: its panels in one SVG with the colours of the moment. */
  function resolved(css) {
    var style = getComputedStyle(root);
    return css.replace(/var\((--\w+)\)/g, function (all, key) { return style.getPropertyValue(key).trim(); });
  }
  function compose(figure) {
    var ns = "http://www.w3.org/2000/svg", x = 0, y = 0, row = 0, width = 0;
    var svg = document.createElementNS(ns, "svg"), style = document.createElementNS(ns, "style");
    var paper = document.createElementNS(ns, "rect");
    style.textContent = resolved(document.getElementById("figure-style").textContent);
    paper.setAttribute("class", "paper");
    paper.setAttribute("width", "100%");
    paper.setAttribute("height", "100%");
    svg.setAttribute("class", "figure");
    svg.appendChild(style);
    svg.appendChild(paper);
    figure.querySelectorAll("svg").forEach(function (panel) {
      var box = panel.viewBox.baseVal, part = panel.cloneNode(true);
      if (x > 0 && x + box.width > 960) { x = 0; y += row + 16; row = 0; }
      part.setAttribute("x", x + 16);
      part.setAttribute("y", y + 16);
      part.setAttribute("width", box.width);
      part.setAttribute("height", box.height);
      part.querySelectorAll(".on").forEach(function (e) { e.classList.remove("on"); });
      svg.appendChild(part);
      x += box.width + 16;
      width = Math.max(width, x);
      row = Math.max(row, box.height);
    });
    svg.setAttribute("width", width + 16);
    svg.setAttribute("height", y + row + 32);
    svg.setAttribute("viewBox", "0 0 " + (width + 16) + " " + (y + row + 32));
    return new XMLSerializer().serializeToString(svg);
  }
  document.querySelectorAll("figure[data-name]").forEach(function (figure) {
    var button = document.createElement("button");
    button.textContent = "Save SVG";
    button.addEventListener("click", function () {
      var link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([compose(figure)], { type: "image/svg+xml" }));
      link.download = figure.getAttribute("data-name") + ".svg";
      link.click();
      setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
    });
    figure.parentNode.querySelector("h2").appendChild(button);
  });
})();
