import json

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM

folder = "run.lvsweep/best/adapter"
adapter = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
merged = AutoModelForCausalLM.from_pretrained("merged", dtype=torch.float32).eval()  # lvsweep export --merge -o merged
with open(f"{folder}/lvsweep.json") as file:
    ids_of = json.load(file)["vocabulary"]["characters"]
ids = torch.tensor([[ids_of[c] for c in "1.02,0.98;1.10,0.95;"]])
with torch.no_grad():
    difference = (adapter(input_ids=ids).logits - merged(input_ids=ids).logits).abs().max()
print("largest difference of a logit:", float(difference))  # of the order of the checkpoint's own rounding
