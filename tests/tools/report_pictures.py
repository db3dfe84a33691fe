#!/usr/bin/env python3
"""Makes docs/pictures/ from a finished sweep with chromium: report_pictures.py LVSWEEP SWEEP_FOLDER docs/pictures"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

# name, sections that are left out, dark
PICTURES = [("report", [], False),
            ("report-dark", ["summary", "trials", "heatmap", "training", "validation", "context", "cost"], True)]


def main():
    lvsweep, sweep, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        page = pathlib.Path(name) / "report.html"
        subprocess.run([lvsweep, "report", sweep, "-o", page], check=True)
        text = page.read_text()
        for picture, hidden, is_dark in PICTURES:
            path = folder / f"{picture}.png"
            style = "".join(f"#{section}" "{display:none}" for section in hidden)
            page.write_text(text.replace("</head>", f"<style>{style}</style></head>"))
            subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                            f"--user-data-dir={name}/profile", f"--screenshot={path.absolute()}",
                            "--window-size=1120,1420", "--force-device-scale-factor=0.8",
                            *(["--blink-settings=preferredColorScheme=0"] if is_dark else []),
                            page.as_uri()], check=True, stderr=subprocess.DEVNULL)
            print(path, path.stat().st_size, "bytes")
            if path.stat().st_size > 200_000:
                sys.exit(f"{path} is larger than 200 kB")


if __name__ == "__main__":
    main()
