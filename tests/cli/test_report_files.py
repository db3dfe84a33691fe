#!/usr/bin/env python3
"""lvsweep report and watch as a user runs them: every figure is XML, pages are balanced HTML without addresses, PNG and
PDF come from the converter that is there, 1,000 trials take under 3 s and 5 MB. Arguments: lvsweep report_fixture."""
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

LVSWEEP, FIXTURE = sys.argv[1:3]
FIGURES = "heatmap training validation context cost parallel forecast budget waterfall workers".split()
KINDS = "full one broken running empty hostile".split()
VOID = {"meta", "link", "br", "img", "input", "wbr", "hr"}
failures = []


def check(condition, words):
    if not condition:
        failures.append(words)
        print("FAILED", words)


def run(*arguments, **options):
    return subprocess.run([LVSWEEP, *map(str, arguments)], capture_output=True, text=True, **options)


class Balance(html.parser.HTMLParser):
    """Every element is closed in order; collects attributes."""

    def __init__(self):
        super().__init__()
        self.stack, self.wrong, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href") and value]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.wrong.append((tag, self.getpos()))


def check_page(kind, page):
    balance = Balance()
    balance.feed(page)
    check(not balance.wrong and not balance.stack, f"{kind}: unbalanced HTML {balance.wrong[:3]} {balance.stack[:3]}")
    outward = [link for link in balance.links if not link.startswith(("#", "data:"))]
    check(not outward, f"{kind}: the page points outside: {outward[:3]}")
    check(len(re.findall(r"<script", page)) == 1, f"{kind}: more scripts than its own")
    for number, svg in enumerate(re.findall(r"<svg.*?</svg>", page, re.S)):
        try:
            ElementTree.fromstring(svg)
        except ElementTree.ParseError as error:
            check(False, f"{kind}: picture {number} is no XML: {error}")
    trials = {int(k) for k in re.findall(r'<tr data-t="(\d+)" tabindex', page)}
    linked = {int(k) for k in re.findall(r'data-t="(\d+)"', page)}
    check(linked <= trials, f"{kind}: marks of trials that the table lacks: {sorted(linked - trials)[:5]}")


def check_figures(kind, sweep, folder):
    for figure in FIGURES:
        path = folder / f"{kind}-{figure}.svg"
        result = run("report", sweep, "--svg", figure, "-o", path)
        if result.returncode == 2:
            check("nothing to show" in result.stderr and not path.exists(), f"{kind} {figure}: {result.stderr}")
            continue
        check(result.returncode == 0, f"{kind} {figure}: {result.stderr}")
        root = ElementTree.parse(path).getroot()
        check(root.tag == "{http://www.w3.org/2000/svg}svg", f"{kind} {figure}: {root.tag}")
        width, height = float(root.get("width")), float(root.get("height"))
        for panel in root.findall("{http://www.w3.org/2000/svg}svg"):
            right = float(panel.get("x")) + float(panel.get("width"))
            bottom = float(panel.get("y")) + float(panel.get("height"))
            check(right <= width and bottom <= height, f"{kind} {figure}: a panel leaves the picture")
        check("var(" not in path.read_text(), f"{kind} {figure}: colours are not resolved")


def check_converters(sweep, folder):
    magic = {"png": b"\x89PNG", "pdf": b"%PDF"}
    for kind in ("png", "pdf"):
        path = folder / f"budget.{kind}"
        result = run("report", sweep, f"--{kind}", "budget", "-o", path)
        if shutil.which("rsvg-convert") or shutil.which("inkscape"):
            check(result.returncode == 0 and path.read_bytes().startswith(magic[kind]), f"--{kind}: {result.stderr}")
        else:
            check(result.returncode == 7 and "librsvg2-bin" in result.stderr, f"--{kind}: {result.stderr}")
        missing = run("report", sweep, f"--{kind}", "budget", "-o", folder / "none", env={"PATH": str(folder)})
        check(missing.returncode == 7 and "apt install librsvg2-bin" in missing.stderr, f"--{kind}: {missing.stderr}")
    refused = run("report", sweep, "--png", "budget", "-o", folder / "nowhere" / "x.png")
    check(refused.returncode != 0 and not list(folder.glob("*.part*")), f"--png into no folder: {refused.returncode}")


def check_usage(sweep, folder):
    check(run("report", folder).returncode == 5, "a folder without a journal")
    check(run("report").returncode == 2, "no folder")
    check(run("report", sweep, "--svg", "nope").returncode == 2, "no such figure")
    check(run("report", sweep, "--svg", "budget", "--png", "budget").returncode == 2, "two figures")
    check(run("report", sweep, "--png", "budget", "-o", "-").returncode == 2, "a picture to standard output")
    check(run("report", sweep, "-o", "-").stdout.startswith("<!doctype html>"), "a page to standard output")
    check(run("report", sweep).returncode == 0 and (sweep / "report.html").exists(), "the page's own place")
    (sweep / "results.h5").touch()
    named = run("report", sweep / "results.h5", "-o", "-")
    check(named.stdout == run("report", sweep, "-o", "-").stdout, "results.h5 means its folder")


def check_watch(kind, sweep):
    once = run("watch", sweep, "--once")
    check(once.returncode == 0 and "trials" in once.stdout and "\x1b" not in once.stdout, f"watch --once {kind}")
    document = json.loads(run("watch", sweep, "--once", "--json").stdout)
    check(document["state"] in ("running", "finished"), f"watch --json {kind}")
    if document["state"] == "finished":  # ends by itself
        lines = run("watch", sweep, timeout=20)
        check(lines.returncode == 0 and lines.stdout.splitlines()[-1].startswith("finished:"), f"watch {kind}")


def check_watch_follows(folder):
    """Lines come while the journal grows, and the watching ends with the sweep."""
    whole = (folder / "full" / "journal.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    growing = folder / "growing"
    growing.mkdir()
    journal = growing / "journal.jsonl"
    journal.write_bytes(b"".join(lines[:20]))
    watching = subprocess.Popen([LVSWEEP, "watch", str(growing)], stdout=subprocess.PIPE, text=True)
    time.sleep(1.5)
    with open(journal, "ab") as file:
        file.write(b"".join(lines[20:-1]) + lines[-1][:10])  # a torn line, as a writer at work leaves it
        file.flush()
        time.sleep(1.5)
        check(watching.poll() is None, "watch: ended before the sweep")
        file.write(lines[-1][10:])
    try:
        output, _ = watching.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        watching.kill()
        output, _ = watching.communicate()
        check(False, "watch: did not end with the sweep")
    check(watching.returncode == 0 and output.splitlines()[-1].startswith("finished: 20 done"), f"watch: {output[-300:]}")
    check(sum(line.startswith("done ") for line in output.splitlines()) == 20, "watch: a line for each trial")


def check_thousand(folder):
    sweep = folder / "thousand"
    subprocess.run([FIXTURE, "thousand", sweep], check=True)
    begun = time.monotonic()
    result = run("report", sweep, "-o", folder / "thousand.html")
    seconds, size = time.monotonic() - begun, (folder / "thousand.html").stat().st_size
    print(f"1,000 trials: {seconds:.2f} s, {size / 1e6:.2f} MB")
    check(result.returncode == 0 and seconds < 3 and size < 5e6, "1,000 trials in under 3 s and 5 MB")
    check_page("thousand", (folder / "thousand.html").read_text())


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for kind in KINDS:
            sweep = folder / kind
            subprocess.run([FIXTURE, kind, sweep], check=True)
            page = folder / f"{kind}.html"
            result = run("report", sweep, "-o", page)
            check(result.returncode == 0 and result.stdout.strip() == str(page), f"{kind}: {result.stderr}")
            check_page(kind, page.read_text())
            check_figures(kind, sweep, folder)
            check_watch(kind, sweep)
        check_converters(folder / "full", folder)
        check_usage(folder / "full", folder)
        check_watch_follows(folder)
        check_thousand(folder)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    sys.exit(main())
