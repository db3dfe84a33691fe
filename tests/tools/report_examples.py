#!/usr/bin/env python3
"""Writes tests/golden/reports.*: two series of the reports' data set as each report scales, writes and tokenises them.

What it is: NumPy for the scaling, Python's formats for the text, the tokenizers library on Qwen's own tokenizer.json.
What it is not: needed by any test; the C tests compare with the files it wrote.
Invariant: the same data set and tokenizer give the same files.
"""

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

SERIES = (0, 972)
TRAIN_FACTOR = 1.1008087  # report C: the training set's maximum / 9.99
ROOT = Path(__file__).resolve().parents[2]


def text(values, factor, decimals, point=True):
    """LLMTIME: ',' between variables, ';' between points."""
    scaled = values.astype(np.float64) / factor
    numbers = [[f"{value:.{decimals}f}" for value in row] for row in scaled]
    if not point:
        numbers = [[str(int(number.replace(".", ""))) for number in row] for row in numbers]
    return ";".join(",".join(row) for row in numbers)


def texts(values):
    """The factor sees the history only: 50 points, D's 80; C's is one for all series."""
    percentile = {p: np.percentile(values[:50].astype(np.float64), p, axis=0) / 10 for p in (95, 99)}
    of_series = np.percentile(values[:80].astype(np.float64), 90) / 10
    return {
        "a": text(values, percentile[95].max(), 2),
        "b2": text(values, percentile[99], 2),
        "b3": text(values, percentile[99], 3),
        "c": text(values, TRAIN_FACTOR, 2),
        "d": text(values, of_series, 2, point=False),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="lotka_volterra_data.h5")
    parser.add_argument("tokenizer", help="Qwen2.5's tokenizer.json")
    arguments = parser.parse_args()
    with h5py.File(arguments.data) as file:
        trajectories = file["trajectories"][...]
    split = json.loads((ROOT / "sweeps/reproduce/splits.json").read_text(encoding="utf-8"))["c"]
    assert abs(trajectories[split["train"]].max() / 9.99 - TRAIN_FACTOR) < 5e-8
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    scalars = {"series": list(SERIES), "texts": [], "first_ids": []}
    for row, index in enumerate(SERIES):
        written = texts(trajectories[index])
        scalars["texts"].append(written)
        scalars["first_ids"].append({})
        for name, content in written.items():
            ids = [tokenizer.token_to_id(character) for character in content]
            assert tokenizer.encode(content).ids == ids, f"{name}: one token a character"
            scalars["first_ids"][row][name] = ids[:40]
            print(index, name, len(ids), content[:44])
    golden = ROOT / "tests/golden"
    save_file({"values": trajectories[list(SERIES)]}, golden / "reports.safetensors")
    (golden / "reports.safetensors").chmod(0o644)
    (golden / "reports.json").write_text(json.dumps(scalars, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
