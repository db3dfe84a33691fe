#!/usr/bin/env python3
"""Measures transformers + peft: tokens/s of one LoRA training step on the CPU, as JSON.

What it is: the yardstick for the speed of the C training step, same batch, same threads.
What it is not: a tuned PyTorch; eager mode, SDPA attention, fp32 (what a user runs first).
Invariant: the time is the median over the measured steps, forward, backward and Adam; one step warms up before.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parents[2]
SHAPE_0_5B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=["tiny", "0.5b"], help="embedded checkpoint 4 x 512, or random 0.5B 1 x 128")
    parser.add_argument("--model", type=Path, default=ROOT / "sweeps/quickstart/model", help="for case tiny")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="measured steps")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, help="rows a step")
    parser.add_argument("--context", type=int, help="tokens a row")
    return parser.parse_args()


def build(case, folder, rank):
    """The frozen model with its adapter on q and v, fp32."""
    torch.manual_seed(0)
    if case == "tiny":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPE_0_5B)).float()
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return get_peft_model(model, config).train()


def timed_step(model, optimizer, ids):
    """Seconds on the clock and of the processor."""
    started, processor = time.perf_counter(), time.process_time()
    optimizer.zero_grad(set_to_none=True)
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    optimizer.step()
    loss.item()
    return time.perf_counter() - started, time.process_time() - processor


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    batch = arguments.batch or (4 if arguments.case == "tiny" else 1)
    context = arguments.context or (512 if arguments.case == "tiny" else 128)
    model = build(arguments.case, arguments.model, arguments.rank)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, model.config.vocab_size, (batch, context), generator=torch.Generator().manual_seed(1))
    timed_step(model, optimizer, ids)
    seconds, processor = zip(*[timed_step(model, optimizer, ids) for _ in range(arguments.steps)])
    median = statistics.median(seconds)
    result = {
        "case": arguments.case,
        "threads": arguments.threads,
        "batch": batch,
        "context": context,
        "rank": arguments.rank,
        "torch": torch.__version__,
        "seconds_a_step": median,
        "seconds_fastest": min(seconds),
        "processor_seconds_a_step": statistics.median(processor),
        "processor_seconds_fastest": min(processor),
        "tokens_per_second": batch * context / median,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
