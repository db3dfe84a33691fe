"""lvsweep bench: every work on the tiny shape, its JSON, and what it refuses."""
import json

import harness

SMALL = ["bench", "--model", "tiny", "--backend", "cpu", "--threads", "1", "--context", "32", "--batch", "2",
         "--steps", "2", "--warmup", "1", "--repeat", "3"]


def works(*more):
    return json.loads(harness.run(0, *SMALL, "--json", *more).stdout)


everything = works("--what", "step,pack,validation,forecast", "--pack", "3", "--series", "3", "--length", "60",
                   "--prompt", "20", "--tokens", "12", "--samples", "2", "--peak", "1", "--profile")
by_name = {work["what"]: work for work in everything["works"]}
assert list(by_name) == ["step", "pack", "validation", "forecast", "prefill", "decode"], list(by_name)
for work in everything["works"]:
    assert work["milliseconds"] > 0 and work["tokens_per_second"] > 0 and work["tflops_per_second"] > 0, work
    assert abs(work["peak_share"] - work["tflops_per_second"]) < 1e-12
    assert len(work["milliseconds_all"]) == 3
    assert sorted(work["milliseconds_all"])[1] == work["milliseconds"], "the median of three"

# Counted by shape: 4 layers of the tiny model, forward and the gradients that LoRA needs, more products than 3 passes
# over the frozen matrices of one window of 2 x 32 tokens would be short of.
hidden, wide, qkv = 128, 640, 256
matrices = 4 * (hidden * qkv + hidden * hidden + 3 * hidden * wide) + 16 * hidden
forward = 2 * 64 * matrices
step = by_name["step"]["flops"]
assert 1.5 * forward < step < 4 * forward, (step / forward)
assert abs(by_name["pack"]["flops"] / step - 3) < 0.2, by_name["pack"]["flops"] / step
assert by_name["validation"]["size"] == "6 x 32", "3 series of 60 tokens are 2 windows each"
assert by_name["forecast"]["size"] == "6 x (20+12)"

names = {line["operation"] for line in by_name["step"]["profile"]}
assert {"matmul_forward", "matmul_backward", "attention_forward", "attention_backward", "adam"} <= names, names
assert any(line["operation"] == "adam" and line["calls"] == by_name["step"]["profile_units"]
           for line in by_name["step"]["profile"])
assert "attention_cached" in {line["operation"] for line in by_name["decode"]["profile"]}

# A folder's shape, a smaller head, and a setting of the table of keys.
folder = works("--model", harness.SOURCE / "sweeps/quickstart/model", "--set", "lora.targets=q_proj+k_proj+v_proj")
assert folder["hidden"] == 128 and folder["works"][0]["flops"] > step
assert works("--vocabulary", "64")["vocabulary"] == 64

text = harness.run(0, *SMALL).stdout
assert "step" in text and "2 x 32" in text and "tokens/s" in text, text

for words, cause in [(["--what", "nothing"], "--what"), (["--model", "gpt"], "qwen2.5-0.5b"),
                     (["--context", "0"], "--context"), (["--precision", "fp8"], "fp8"),
                     (["--set", "train.batsch=3"], "did you mean"), (["--rank", "1.5"], "whole number")]:
    refused = harness.run(0, *SMALL, *words, expect=2)
    assert cause in refused.stderr, refused.stderr
print("bench: works, JSON, profile and refusals as stated")
