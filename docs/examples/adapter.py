import json

import torch
from peft import AutoPeftModelForCausalLM

folder = "run.lvsweep/best/adapter"
model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
with open(f"{folder}/lvsweep.json") as file:
    ids_of = json.load(file)["vocabulary"]["characters"]
ids = torch.tensor([[ids_of[c] for c in "1.02,0.98;1.10,0.95;"]])
with torch.no_grad():
    adapted = model(input_ids=ids).logits
    with model.disable_adapter():
        plain = model(input_ids=ids).logits
print("largest change of a logit:", float((adapted - plain).abs().max()))  # 0 would mean: no effect
