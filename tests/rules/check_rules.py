#!/usr/bin/env python3
"""Rules of docs/architecture.md that a machine can check: layers, the one place of each library header, file sizes,
unfinished marks, paths of one machine. Prints every breach; exit 1 when there is one."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(sys.argv[1]).resolve()
LAYER = dict(base=0, config=1, data=2, backend=2, model=3, flops=4, train=5, evaluate=5, results=6, sweep=7, cli=8)
# The module that each public header belongs to.
HEADER = dict(status="base", log="base", strbuf="base", rng="base", file="base", hash="base", process="base", fault="base", trial="base",
              clock="base",
              record="base", version="base", config="config", metric="config", series="data", text="data", tokenizer="data",
              window="data", describe="data", backend="backend", model="model", flops="flops", train="train",
              evaluate="evaluate", results="results", report="results", watch="results", grid="sweep", sweep="sweep", cli="cli")
HEADER["import"] = "data"
LIBRARY = {
    r"mpi\.h": ["src/main.c", "src/sweep/protocol.c", "src/results/h5_file.c", "src/results/h5_parallel.c"],
    r"hdf5(_hl)?\.h": ["src/data/series_h5", "src/results/h5_"],
    r"iniparser\.h": ["src/config/config_ini.c"],
    r"cblas\.h": ["src/backend/cpu/"],
    r"(cuda|cublas)[A-Za-z_]*\.h": ["src/backend/cuda/"],
}
breaches = []


def module_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "src" and len(parts) > 2 else "main"


def check_layers(path, includes):
    own = module_of(path)
    for name in includes:
        match = re.fullmatch(r"lvsweep/(\w+)\.h", name)
        if not match:
            continue
        other = HEADER.get(match.group(1))
        if other is None:
            breaches.append(f"{path}: {name} has no module in tests/rules")
        elif own != "main" and other != own and LAYER[other] >= LAYER[own]:
            breaches.append(f"{path}: {own} ({LAYER[own]}) must not include {name} of {other} ({LAYER[other]})")


def check_libraries(path, includes):
    text = str(path.relative_to(ROOT))
    for name in includes:
        for pattern, places in LIBRARY.items():
            if re.fullmatch(pattern, pathlib.PurePath(name).name) and not any(text.startswith(p) for p in places):
                breaches.append(f"{text}: {name} is allowed in {', '.join(places)} only")


def check_source(path):
    text = path.read_text()
    includes = re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.M)
    check_layers(path, includes)
    check_libraries(path, includes)
    if text.count("\n") > 600:
        breaches.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines, at most 600")
    if not text.lstrip().startswith("/*"):
        breaches.append(f"{path.relative_to(ROOT)}: opens with no comment on what it is")


def check_words(path):
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line) and "check_rules" not in str(path):
            breaches.append(f"{path.relative_to(ROOT)}:{number}: mark of unfinished work")
        if re.search(r"(^|[^A-Za-z0-9_.])/(work|farm|root)/", line) and "check_rules" not in str(path):
            breaches.append(f"{path.relative_to(ROOT)}:{number}: a path of one machine")


def check_format(paths):
    try:
        version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        version = ""
    if "version 14" not in version:
        print("format: clang-format 14 is not here, left out")
        return
    for path in paths:
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", str(path)], capture_output=True, text=True)
        if run.returncode != 0:
            breaches.append(f"{path.relative_to(ROOT)}: not formatted (clang-format -i)")


listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
                        capture_output=True, text=True).stdout.split()
files = [ROOT / name for name in listed] if listed else [p for p in ROOT.rglob("*") if p.is_file()]
files = [p for p in files if p.exists() and not p.is_symlink()]
sources = [p for p in files if p.suffix in (".c", ".h", ".cu", ".cuh") and p.relative_to(ROOT).parts[0] in ("src", "include")]
for source in sources:
    check_source(source)
for file in files:
    if file.relative_to(ROOT).parts[0] in ("src", "include", "tests", "docs", "cmake", "sweeps", "jobscripts"):
        check_words(file)
check_format([p for p in files if p.suffix in (".c", ".h") and p.relative_to(ROOT).parts[0] in ("src", "include", "tests")])
for breach in breaches:
    print(breach)
print(f"{len(sources)} sources, {len(breaches)} breaches")
sys.exit(1 if breaches else 0)
