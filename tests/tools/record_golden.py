#!/usr/bin/env python3
"""Records tests/golden from transformers, peft, PyTorch, NumPy and SciPy on the embedded tiny checkpoint.

What it is: the writer of the files that tests/golden/README.md describes.
What it is not: a test; the C tests compare with these files.
Invariant: run again on the same checkpoint and package versions it writes the same bytes.
"""

import argparse
import hashlib
import json
import platform
import shutil
import warnings
from pathlib import Path

import numpy
import peft
import scipy
import torch
import transformers
from safetensors.torch import save_file

import golden_model
import golden_numbers
import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def write_tensors(folder, name, tensors):
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.safetensors")
    (folder / f"{name}.safetensors").chmod(0o644)


def write_json(folder, name, scalars):
    (folder / f"{name}.json").write_text(json.dumps(scalars, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def write_part(folder, name, part):
    tensors, scalars = part
    if tensors:
        write_tensors(folder, name, tensors)
    if scalars:
        write_json(folder, name, scalars)
    print(f"{name}: {len(tensors)} tensors", flush=True)


def write_adapter(folder, name, model):
    """PEFT's own folder without its model card; targets sorted (PEFT keeps a set), the base model's path relative."""
    model.save_pretrained(folder / name)
    (folder / name / "README.md").unlink(missing_ok=True)
    config = folder / name / "adapter_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    content["target_modules"] = sorted(content["target_modules"])
    content["base_model_name_or_path"] = "sweeps/quickstart/model"
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / name / "adapter_model.safetensors").chmod(0o644)


def provenance(model_folder):
    weights = (model_folder / "model.safetensors").read_bytes()
    return {
        "checkpoint_sha256": hashlib.sha256(weights).hexdigest(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "sweeps/quickstart/model")
    parser.add_argument("--output", type=Path, default=ROOT / "tests/golden")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*base_model_name_or_path.*")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    base = tiny_checkpoint.load_model(arguments.model).requires_grad_(False)
    exact = tiny_checkpoint.load_model(arguments.model).requires_grad_(False).double()
    folder = arguments.output
    for name in ("adapter_all", "adapter_start"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)

    forward = golden_model.record_forward(base, exact)
    write_part(folder, "forward", forward)
    adapted, *lora = golden_model.record_lora(base, exact)
    write_adapter(folder, "adapter_all", adapted)
    write_part(folder, "lora", lora)
    start, *training = golden_model.record_training(base, exact)
    write_adapter(folder, "adapter_start", start)
    write_part(folder, "training", training)
    write_part(folder, "validation", golden_model.record_validation(base, adapted))
    write_part(folder, "greedy", golden_model.record_greedy(base, adapted))
    write_part(folder, "left_padding", golden_model.record_left_padding(base, adapted))
    write_part(folder, "head", golden_model.record_head(base, exact))
    ids, logits = forward[0]["input_ids"], forward[0]["logits"]
    write_part(folder, "sampling", golden_numbers.record_sampling(logits[:, -1], ids[:, -16:]))
    write_part(folder, "learning_rate", golden_numbers.record_learning_rates())
    write_part(folder, "scaling", golden_numbers.record_scaling())
    write_part(folder, "solutions", golden_numbers.record_solutions())
    write_json(folder, "provenance", provenance(arguments.model))


if __name__ == "__main__":
    main()
