"""docs/examples on the quickstart's file, as a user runs them, with the Python and R of this machine. Argument: the folder
that walk.sh left."""
import os
import pathlib
import shutil
import subprocess
import sys

EXAMPLES = pathlib.Path(os.environ["LVSWEEP_SOURCE"]) / "docs/examples"
FOLDER = pathlib.Path(sys.argv[1])
PYTHON = os.environ.get("LVS_PYTHON", "/usr/bin/python3")
# What is printed, and what is left: the table is the one of docs/analysis.md.
PRINTS = {"table.py": ["0.0003", "0.0010", "0.0030", "0.97", "1.03", "NaN"], "table.R": ["0.97", "1.03", "NaN"],
          "frame.py": ["r8-lr0.003-c256-s0", "untrained 1.0", "search"], "curves.R": ["mean absolute error"]}
LEAVES = {"heatmap.py": "heatmap.pdf", "curves.py": "curves.pdf", "forecasts.py": "forecasts.pdf", "curves.R": "curves-r.pdf"}
NEEDS_PEFT = {"adapter.py", "merged.py"}  # run by walk.sh


def has(*command):
    return bool(shutil.which(command[0])) and subprocess.run(command, stdout=subprocess.DEVNULL,
                                                             stderr=subprocess.DEVNULL).returncode == 0


def run(example, program):
    left = LEAVES.get(example)
    if left:
        (FOLDER / left).unlink(missing_ok=True)
    done = subprocess.run([program, str(EXAMPLES / example)], cwd=FOLDER, env=dict(os.environ, MPLBACKEND="Agg"), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{example} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    for word in PRINTS.get(example, []):
        if word not in done.stdout:
            sys.exit(f"{example} does not print {word}:\n{done.stdout}")
    if left and not (FOLDER / left).read_bytes().startswith(b"%PDF"):
        sys.exit(f"{example} leaves no {left}")
    print(example, "runs")


if not (FOLDER / "run.lvsweep/results.h5").exists():
    sys.exit(f"{FOLDER} holds no sweep: walk.sh comes first")
runs = 0
has_readers = has(PYTHON, "-c", "import xarray, h5netcdf, pandas")
has_plots = has_readers and has(PYTHON, "-c", "import matplotlib")
has_r = has("Rscript", "-e", "library(ncdf4)")
for path in sorted(EXAMPLES.iterdir()):
    name = path.name
    if name in NEEDS_PEFT:
        continue
    is_r, plots = path.suffix == ".R", "matplotlib" in path.read_text()
    if (is_r and has_r) or (not is_r and has_readers and (has_plots or not plots)):
        run(name, "Rscript" if is_r else PYTHON)
        runs += 1
    else:
        print(f"skipped: {name} needs", "R with ncdf4 (Debian: r-cran-ncdf4)" if is_r else
              "xarray, h5netcdf, matplotlib (Debian: python3-xarray python3-h5netcdf python3-matplotlib)")
print(f"{runs} examples ran")
sys.exit(0 if runs else 77)
