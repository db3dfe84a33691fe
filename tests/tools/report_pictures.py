#!/usr/bin/env python3
"""Makes docs/pictures/ with chromium: report_pictures.py LVSWEEP SWEEP_FOLDER docs/pictures makes those of the report from
a finished sweep, the same with --watch that of the terminal from one that is running."""
import html
import pathlib
import shutil
import subprocess
import sys
import tempfile

# name, sections that are left out, dark
PICTURES = [("report", [], False),
            ("report-dark", ["summary", "trials", "heatmap", "training", "validation", "context", "cost"], True)]


TERMINAL = """<!doctype html><meta charset="utf-8"><body style="margin:0;background:#14181d">
<pre style="margin:0;padding:16px 20px;color:#e6e9ec;font:14px/1.35 'DejaVu Sans Mono',monospace">{}</pre>"""


def shoot(chromium, profile, page, path, width, height, *options):
    subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    f"--user-data-dir={profile}", f"--screenshot={path.absolute()}", f"--window-size={width},{height}",
                    *options, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    print(path, path.stat().st_size, "bytes")
    if path.stat().st_size > 200_000:
        sys.exit(f"{path} is larger than 200 kB")


def watch(lvsweep, sweep, folder, chromium, name):
    """The table as a terminal of this width shows it."""
    text = subprocess.run([lvsweep, "watch", sweep, "--once"], check=True, capture_output=True, text=True).stdout
    page = pathlib.Path(name) / "watch.html"
    page.write_text(TERMINAL.format(html.escape(f"$ lvsweep watch {pathlib.Path(sweep).name}\n{text}")))
    lines = text.rstrip().splitlines()
    shoot(chromium, f"{name}/profile", page, folder / "watch.png", 40 + int(8.5 * max(map(len, lines))),
          40 + 19 * (len(lines) + 1))


def main():
    lvsweep, sweep, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        if sys.argv[4:] == ["--watch"]:
            return watch(lvsweep, sweep, folder, chromium, name)
        page = pathlib.Path(name) / "report.html"
        subprocess.run([lvsweep, "report", sweep, "-o", page], check=True)
        text = page.read_text()
        for picture, hidden, is_dark in PICTURES:
            path = folder / f"{picture}.png"
            style = "".join(f"#{section}" "{display:none}" for section in hidden)
            page.write_text(text.replace("</head>", f"<style>{style}</style></head>"))
            shoot(chromium, f"{name}/profile", page, path, 1120, 1420, "--force-device-scale-factor=0.8",
                  *(["--blink-settings=preferredColorScheme=0"] if is_dark else []))


if __name__ == "__main__":
    main()
