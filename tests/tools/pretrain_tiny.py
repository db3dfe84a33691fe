#!/usr/bin/env python3
"""Pretrains the embedded tiny checkpoint, sweeps/quickstart/model, on generic numeric series.

What it is: a seeded CPU training run of about 25 minutes on two free cores; the folder holds a usable checkpoint from
the first few minutes on.
What it is not: a measurement; evaluate_tiny.py states the losses on predator-prey text.
Invariant: no predator-prey series is ever seen (synthetic_series.py).
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional

import synthetic_series
import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
LONG_EVERY = 4  # every fourth step uses few long windows, so that forecasts far behind the context stay sound
TOKENS_A_STEP = 16 * 512


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "sweeps/quickstart/model")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints in the output folder")
    parser.add_argument("--log", type=Path, help="one JSON line a logged step")
    return parser.parse_args()


def batch_ids(rng, step):
    """(windows, context) int64: 16 x 512, or 7 x 1152 in every fourth step."""
    context = 1152 if step % LONG_EVERY == LONG_EVERY - 1 else 512
    rows = [
        synthetic_series.window(rng, context, tiny_checkpoint.encode, tiny_checkpoint.END_OF_TEXT_ID)
        for _ in range(TOKENS_A_STEP // context)
    ]
    return torch.tensor(np.array(rows))


def batch_loss(model, ids):
    """Mean cross-entropy of the next token, nats."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def rate_factor(step, steps):
    """Warm-up over the first 4 %, then a cosine to 2 %."""
    warmup = max(1, steps // 25)
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def build_optimizer(model, learning_rate):
    """AdamW with decay on the matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), eps=1e-8)


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    model = tiny_checkpoint.build_model(arguments.seed).train()
    optimizer = build_optimizer(model, arguments.learning_rate)
    rng = np.random.default_rng(arguments.seed)
    started = time.monotonic()
    recent = []
    for step in range(arguments.steps):
        for group in optimizer.param_groups:
            group["lr"] = arguments.learning_rate * rate_factor(step, arguments.steps)
        loss = batch_loss(model, batch_ids(rng, step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 20 == 0:
            line = json.dumps({"step": step + 1, "loss": float(np.mean(recent)), "seconds": time.monotonic() - started})
            print(line, flush=True)
            if arguments.log:
                with arguments.log.open("a", encoding="utf-8") as log:
                    log.write(line + "\n")
            recent = []
        if (step + 1) % arguments.save_every == 0 or step + 1 == arguments.steps:
            tiny_checkpoint.save_checkpoint(model, arguments.output)


if __name__ == "__main__":
    main()
