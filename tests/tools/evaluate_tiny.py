#!/usr/bin/env python3
"""States the tiny checkpoint's loss on predator-prey text before and after LoRA fine-tuning, as JSON.

What it is: the measurement behind sweeps/quickstart/model/README.md, with transformers + peft.
What it is not: the project's own evaluation; `lvsweep` computes the same losses in C.
Invariant: series scaled by the larger 95th percentile / 10, 2 decimals; windows of one context, pads never counted.
"""

import argparse
import json
import math
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import torch
from peft import LoraConfig, get_peft_model

import golden_numbers
import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PAD, IGNORED = tiny_checkpoint.END_OF_TEXT_ID, -100


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="HDF5 file with /trajectories (series, time, 2), at least 900 series")
    parser.add_argument("--model", type=Path, default=ROOT / "sweeps/quickstart/model")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--targets", default="q_proj+v_proj", help="joined by +")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--series", type=int, default=200, help="validation series from 700 on")
    return parser.parse_args()


def token_series(values):
    """Ids of one (time, 2) series."""
    factor = np.percentile(values, 95.0, axis=0).max() / 10.0
    return tiny_checkpoint.encode(golden_numbers.llmtime_text(values / factor, 2))


def windows(series, context, stride):
    """ids and labels [n, context], padded right, pad labels ignored."""
    ids, labels = [], []
    for tokens in series:
        for start in range(0, len(tokens), stride):
            piece = tokens[start : start + context]
            if len(piece) < 2:
                continue
            ids.append(piece + [PAD] * (context - len(piece)))
            labels.append(piece + [IGNORED] * (context - len(piece)))
    return torch.tensor(ids), torch.tensor(labels)


def mean_loss(model, ids, labels):
    """Sum of token losses over number of labels, nats."""
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(ids), 8):
            logits = model(input_ids=ids[first : first + 8], use_cache=False).logits[:, :-1]
            targets = labels[first : first + 8, 1:]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            ).item()
            count += int((targets != IGNORED).sum())
    return total / count


def unigram_loss(training, validation):
    """The loss of the training split's character frequencies, nats."""
    counts = Counter(token for tokens in training for token in tokens)
    whole = sum(counts.values())
    tokens = [token for series in validation for token in series[1:]]
    return -sum(math.log(counts[token] / whole) for token in tokens) / len(tokens)


def fine_tune(model, ids, labels, steps, learning_rate):
    """Adam, batch 4, seeded order; the mean training loss of the last 50 steps."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=learning_rate)
    order = np.random.default_rng(0)
    recent = []
    model.train()
    for _ in range(steps):
        rows = torch.tensor(order.choice(len(ids), size=4, replace=False))
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids[rows], labels=labels[rows], use_cache=False).loss
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
    return float(np.mean(recent[-50:]))


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with h5py.File(arguments.data) as file:
        values = file["trajectories"][...].astype(np.float64)
    training = [token_series(one) for one in values[:700]]
    validation = [token_series(one) for one in values[700 : 700 + arguments.series]]
    model = tiny_checkpoint.load_model(arguments.model)
    model.set_attn_implementation("sdpa")
    held_out = windows(validation, arguments.context, arguments.context)
    result = {"context": arguments.context, "validation_series": len(validation), "labels_padded": False}
    result["uniform"] = math.log(tiny_checkpoint.VOCABULARY_SIZE)
    result["unigram"] = unigram_loss(training, validation)
    result["untrained"] = mean_loss(model, *held_out)
    if arguments.steps:
        targets = arguments.targets.split("+")
        config = LoraConfig(r=arguments.rank, lora_alpha=arguments.rank, target_modules=targets, task_type="CAUSAL_LM")
        adapted = get_peft_model(model, config)
        started = time.monotonic()
        batches = windows(training, arguments.context, arguments.context // 2)
        result["training_loss_last_50_steps"] = fine_tune(adapted, *batches, arguments.steps, arguments.learning_rate)
        result["seconds"] = round(time.monotonic() - started, 1)
        result["fine_tuned"] = mean_loss(adapted, *held_out)
        result.update(rank=arguments.rank, learning_rate=arguments.learning_rate, steps=arguments.steps)
        result["targets"] = arguments.targets
    print(json.dumps(result))


if __name__ == "__main__":
    main()
