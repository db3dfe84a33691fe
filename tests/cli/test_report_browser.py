#!/usr/bin/env python3
"""The report in a real browser (chromium, headless): no console message, no request, nothing wider than the window, no
text over another or outside its picture, linked marks and the saved SVG work; desktop, telephone, dark. With a third
folder argument the screenshots stay there. Arguments: lvsweep report_fixture [FOLDER]. Exit 77: no chromium here."""
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

LVSWEEP, FIXTURE = sys.argv[1:3]
KINDS = "full one broken running empty hostile thousand".split()
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
failures = []

# Runs in the page after it is built and leaves what it found in an element that --dump-dom shows.
PROBE = """<script>window.addEventListener("load", function () {
  var found = {overlaps: [], outside: [], errors: window.probeErrors || []};
  found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.querySelectorAll("svg.figure").forEach(function (svg) {
    var frame = svg.getBoundingClientRect(), texts = [];
    svg.querySelectorAll("text").forEach(function (text) {
      var box = text.getBoundingClientRect();
      if (!box.width || text.textContent === "×") return;
      if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)
        found.outside.push(svg.getAttribute("aria-label") + ": " + text.textContent);
      texts.push([box, text.textContent]);
    });
    for (var i = 0; i < texts.length && texts.length < 600; i++)
      for (var j = i + 1; j < texts.length; j++) {
        var a = texts[i][0], b = texts[j][0];
        var x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        var y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 2 && y > 4) found.overlaps.push(svg.getAttribute("aria-label") + ": " + texts[i][1] + " | " + texts[j][1]);
      }
  });
  var row = document.querySelector("table.trials tbody tr");
  if (row) {
    row.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
    found.linked = document.body.classList.contains("linked");
    found.on = document.querySelectorAll(".on").length;
    document.querySelector("h1").dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
    found.released = document.querySelectorAll(".on").length === 0;
  }
  found.dark = getComputedStyle(document.body).backgroundColor;
  document.querySelector("header button").click();
  found.toggled = getComputedStyle(document.body).backgroundColor;
  document.querySelector("header button").click();
  localStorage.clear(); /* the next page of this profile starts afresh */
  var saved = [], create = URL.createObjectURL;
  URL.createObjectURL = function (blob) { saved.push(blob); return create.call(URL, blob); };
  HTMLAnchorElement.prototype.click = function () {};
  document.querySelectorAll("h2 button").forEach(function (button) { button.click(); });
  Promise.all(saved.map(function (blob) { return blob.text(); })).then(function (texts) {
    found.saved = texts;
    var out = document.createElement("pre");
    out.id = "probe";
    out.textContent = JSON.stringify(found);
    document.body.appendChild(out);
  });
});</script>"""


def check(condition, words):
    if not condition:
        failures.append(words)
        print("FAILED", words)


def browse(profile, page, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
               f"--user-data-dir={profile}", *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def console_of(result):
    return [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def dark_options(dark):
    return ["--blink-settings=preferredColorScheme=0"] if dark else []


def probe(profile, page, dark):
    """What the probe found; a window is at least 500 px wide, so telephones are tried in a frame of 390 px."""
    result = browse(profile, page, "--virtual-time-budget=20000", "--dump-dom", "--window-size=1200,900",
                    *dark_options(dark))
    check(not console_of(result), f"{page.name}: {console_of(result)[:3]}")
    found = re.search(r'<pre id="probe">(.*?)</pre>', result.stdout, re.S)
    if not found:
        check(False, f"{page.name}: the page did not come to its end: {result.stderr[-300:]}")
        return None
    text = found.group(1)
    for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", "\xa0"), ("&amp;", "&")):
        text = text.replace(escaped, plain)
    return json.loads(text)


def check_probe(name, found, is_dark, n_trials):
    if found is None:
        return
    check(found["overflow"] <= 0, f"{name}: {found['overflow']} px wider than the window")
    check(not found["outside"], f"{name}: texts outside their picture: {found['outside'][:5]}")
    check(not found["overlaps"], f"{name}: texts over each other: {found['overlaps'][:5]}")
    if n_trials:
        check(found["linked"] and found["on"] >= 1 and found["released"], f"{name}: linked marks")
    dark, light = "rgb(20, 24, 29)", "rgb(255, 255, 255)"
    check(found["dark"] == (dark if is_dark else light), f"{name}: background {found['dark']}")
    check(found["toggled"] == (light if is_dark else dark), f"{name}: toggled background {found['toggled']}")
    for svg in found["saved"]:
        root = ElementTree.fromstring(svg)
        check(root.tag.endswith("svg") and "var(--" not in svg, f"{name}: a saved figure")


def screenshot(profile, page, path, width, height, dark):
    result = browse(profile, page, f"--screenshot={path}", f"--window-size={width},{height}", *dark_options(dark))
    check(path.exists() and not console_of(result), f"{path.name}: {result.stderr[-300:]}")
    if path.exists():
        header = path.read_bytes()[:24]
        check(struct.unpack(">II", header[16:24]) == (width, height), f"{path.name}: size")
        check(path.stat().st_size > 20000, f"{path.name}: looks empty, {path.stat().st_size} bytes")


def main():
    if not CHROMIUM:
        print("skipped: chromium is not installed (Debian: apt install chromium)")
        return 77
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        shots = pathlib.Path(sys.argv[3]).absolute() if len(sys.argv) > 3 else folder
        shots.mkdir(exist_ok=True)
        for kind in KINDS:
            subprocess.run([FIXTURE, kind, folder / kind], check=True)
            page = folder / f"{kind}.html"
            subprocess.run([LVSWEEP, "report", folder / kind, "-o", page], check=True, stdout=subprocess.DEVNULL)
            text = page.read_text()
            probed = folder / f"{kind}-probed.html"
            probed.write_text(text.replace("</body>", PROBE + "</body>"))
            for is_dark in (False, True) if kind == "full" else (False,):
                found = probe(folder / "profile", probed, is_dark)
                check_probe(f"{kind}{' dark' if is_dark else ''}", found, is_dark, text.count("tabindex"))
                if kind == "full" and found:
                    check(found["on"] >= 6, f"full: one trial is marked {found['on']} times")
                    check(len(found["saved"]) == 10, f"full: {len(found['saved'])} figures saved")
        narrow = folder / "narrow.html"
        narrow.write_text(f'<body style="margin:0"><iframe src="{(folder / "full.html").as_uri()}" '
                          'style="border:0;width:390px;height:8400px"></iframe>')
        profile = folder / "profile"
        screenshot(profile, folder / "full.html", shots / "report-desktop.png", 1200, 4700, False)
        screenshot(profile, folder / "full.html", shots / "report-dark.png", 1200, 4700, True)
        screenshot(profile, narrow, shots / "report-telephone.png", 500, 8400, False)
        for kind in KINDS[1:]:
            screenshot(profile, folder / f"{kind}.html", shots / f"report-{kind}.png", 1200, 3600, False)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
