#!/usr/bin/env python3
"""Loads an exported adapter folder with peft and compares its logits with recorded ones.

What it is: the proof that another program reads the adapter, names and scaling included.
What it is not: a benchmark; fp32 on the CPU.
Invariant: an adapter that changes nothing is an error (exit 1), because peft loads wrongly named tensors silently.
Ids are JSON, one list a row, all of one length: [[4, 2, 5], [6, 2, 7]], or a flat list for one row.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--ids", default="-", help="JSON file with token ids, or - for standard input (default)")
    parser.add_argument("--logits", type=Path, help=".safetensors file to compare with, [rows, tokens, vocabulary]")
    parser.add_argument("--name", default="logits", help="tensor in that file (default: logits)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest max |difference| / max |logit| allowed")
    parser.add_argument("--print", type=int, default=4, dest="printed", help="logits printed of each row's last token")
    return parser.parse_args()


def read_ids(source):
    """(rows, tokens) int64."""
    rows = json.loads(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"))
    if rows and isinstance(rows[0], int):
        rows = [rows]
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        sys.exit("check_adapter: the ids must be one or more lists of one length")
    return torch.tensor(rows)


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def compare(logits, path, name, tolerance):
    """True when the recorded tensor agrees."""
    tensors = load_file(path)
    if name not in tensors:
        sys.exit(f"check_adapter: {path} has no tensor {name}; it has {', '.join(sorted(tensors))}")
    expected = tensors[name].float()
    if expected.shape != logits.shape:
        sys.exit(f"check_adapter: {name} has shape {list(expected.shape)}, the model gives {list(logits.shape)}")
    difference = (expected - logits).abs().max().item()
    scale = logits.abs().max().item()
    print(f"max |difference| {difference:.3e}, of max |logit| {difference / scale:.3e} (allowed {tolerance:.0e})")
    return difference <= tolerance * scale


def main():
    arguments = parse_arguments()
    ids = read_ids(arguments.ids)
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    before = logits_of(base, ids)
    model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    logits = logits_of(model, ids)
    change = (logits - before).abs().max().item()
    for row, last in enumerate(logits[:, -1]):
        print(f"row {row}: " + " ".join(f"{value:.6f}" for value in last[: arguments.printed].tolist()))
    print(f"max |change by the adapter| {change:.3e}")
    if change == 0.0:
        sys.exit("check_adapter: the adapter changes nothing: wrong tensor names, or B is zero")
    if arguments.logits and not compare(logits, arguments.logits, arguments.name, arguments.tolerance):
        sys.exit("check_adapter: the logits differ")


if __name__ == "__main__":
    main()
