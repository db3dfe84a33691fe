"""Golden recordings of the tiny checkpoint's arithmetic: forward, gradients, optimiser steps, losses, greedy forecasts.

What it is: transformers and peft in fp32 on the CPU, plus the same in fp64 to state the fp32 reference's own error.
What it is not: the text or sampling recordings (golden_numbers.py).
Invariant: every function returns (tensors, scalars) and draws only from seeds written here.
"""

import copy

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import GenerationConfig

import golden_numbers
import tiny_checkpoint

ALL_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IGNORED = -100
PAD = tiny_checkpoint.END_OF_TEXT_ID
STEPS, BATCH, CONTEXT = 20, 4, 64
VALIDATION_CONTEXT = 128
NEW_TOKENS = 60


def series_ids(index, points):
    """Ids of the first points of recorded predator-prey system number index, 2 decimals, no trailing ';'."""
    return tiny_checkpoint.encode(golden_numbers.predator_prey_text(index, points))


def batch_of_series(first, rows, context):
    """(rows, context) int64 ids of systems first, first + 1 and so on, each from another character on."""
    ids = []
    for row in range(rows):
        whole = series_ids(first + row, 100)
        start = (37 * row + 11 * first) % (len(whole) - context)
        ids.append(whole[start : start + context])
    return torch.tensor(ids)


def lora_model(base, rank, alpha, targets, seed, b_std):
    """A copy of base with an adapter: A normal with std 1/sqrt(in), B normal with std b_std (0: zeros)."""
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(copy.deepcopy(base), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            std = parameter.shape[1] ** -0.5
        elif "lora_B" in name:
            std = b_std
        else:
            continue
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * std
        parameter.data.copy_(values)
    return model.eval()


def adapter_tensors(model, prefix=""):
    """The adapter's tensors, fp32, under the names of PEFT's own file."""
    return {prefix + k: v.detach().float().clone() for k, v in get_peft_model_state_dict(model).items()}


def lora_gradients(model):
    """Gradients under the names of PEFT's own file."""
    return {
        name.replace(".default", ""): parameter.grad.detach().clone()
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }


def largest_relative(reference, exact):
    """max |difference| / max |exact| over one tensor, the measure the tests use."""
    exact = exact.double()
    return float((reference.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-300))


def worst(references, exacts):
    return max(largest_relative(references[name], exacts[name]) for name in references)


def forward_batch():
    """input_ids and labels [4, 64]; row 1 opens with ignored labels, row 3 ends with them, row 2 has holes."""
    ids = batch_of_series(4, BATCH, CONTEXT)
    labels = ids.clone()
    labels[1, :20] = IGNORED
    labels[2, 5::9] = IGNORED
    labels[3, 50:] = IGNORED
    return ids, labels


def record_forward(base, exact):
    """Part a: logits and loss without an adapter."""
    ids, labels = forward_batch()
    with torch.no_grad():
        output = base(input_ids=ids, labels=labels, use_cache=False)
        reference = exact(input_ids=ids, labels=labels, use_cache=False)
    tensors = {"input_ids": ids, "labels": labels, "logits": output.logits}
    scalars = {
        "loss": output.loss.item(),
        "loss_fp64": reference.loss.item(),
        "n_labels": int((labels[:, 1:] != IGNORED).sum()),
        "fp32_error_of_logits": largest_relative(output.logits, reference.logits),
    }
    return tensors, scalars


def record_lora(base, exact):
    """Part b: logits, loss and the gradient of every A and B, rank 4, alpha 8, all seven targets."""
    ids, labels = forward_batch()
    results = []
    for model in (base, exact):
        adapted = lora_model(model, 4, 8, ALL_TARGETS, seed=101, b_std=0.05)
        output = adapted(input_ids=ids, labels=labels, use_cache=False)
        output.loss.backward()
        results.append((adapted, output, lora_gradients(adapted)))
    (adapted, output, gradients), (_, exact_output, exact_gradients) = results
    tensors = {"logits": output.logits.detach(), **{"gradient." + k: v for k, v in gradients.items()}}
    norm = torch.sqrt(sum((g.double() ** 2).sum() for g in gradients.values()))
    scalars = {
        "rank": 4,
        "alpha": 8,
        "targets": ALL_TARGETS,
        "loss": output.loss.item(),
        "loss_fp64": exact_output.loss.item(),
        "gradient_norm": norm.item(),
        "fp32_error_of_logits": largest_relative(output.logits.detach(), exact_output.logits.detach()),
        "fp32_error_of_gradients": worst(gradients, exact_gradients),
    }
    return adapted, tensors, scalars


def training_batches():
    """ids and labels [20, 4, 64]; every third batch has ignored labels at its end."""
    ids = torch.stack([batch_of_series(4 * step, BATCH, CONTEXT) for step in range(STEPS)])
    labels = ids.clone()
    labels[::3, 2, 48:] = IGNORED
    return ids, labels


def build_optimizer(parameters, kind):
    """kind adam: constant 1e-3. kind adamw: decay 0.01, linear one-cycle with warm-up 5 of 20 steps (beta1 kept)."""
    if kind == "adam":
        return torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8), None
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1e-3,
        total_steps=STEPS,
        pct_start=5 / STEPS,
        anneal_strategy="linear",
        div_factor=25,
        final_div_factor=100,
        cycle_momentum=False,
    )
    return optimizer, schedule


def train(model, kind, clip_norm, head_bias):
    """20 optimiser steps; everything recorded before the update of its step."""
    if head_bias:
        head = model.get_base_model().lm_head
        head.bias = torch.nn.Parameter(torch.zeros(head.out_features, dtype=head.weight.dtype))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, schedule = build_optimizer(parameters, kind)
    all_ids, all_labels = training_batches()
    record = {"loss": [], "gradient_norm": [], "learning_rate": []}
    first_gradient = None
    for ids, labels in zip(all_ids, all_labels):
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm if clip_norm else float("inf"))
        if head_bias and first_gradient is None:
            first_gradient = head.bias.grad.detach().clone()
        record["loss"].append(loss.item())
        record["gradient_norm"].append(norm.item())
        record["learning_rate"].append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule:
            schedule.step()
    bias = (first_gradient, head.bias.detach().clone()) if head_bias else None
    return record, adapter_tensors(model), bias


TRAINING_RUNS = {
    "adam": {"kind": "adam", "clip_norm": None, "head_bias": False},
    "adamw": {"kind": "adamw", "clip_norm": 1.0, "head_bias": False},
    "adamw_clipped": {"kind": "adamw", "clip_norm": 0.06, "head_bias": False},
    "head_bias": {"kind": "adam", "clip_norm": None, "head_bias": True},
}


def record_training(base, exact):
    """Part c: four runs of 20 steps from one adapter, rank 8, alpha 8, q and v."""
    ids, labels = training_batches()
    tensors, scalars = {"input_ids": ids, "labels": labels}, {"rank": 8, "alpha": 8, "targets": ["q_proj", "v_proj"]}
    start = lora_model(base, 8, 8, ["q_proj", "v_proj"], seed=203, b_std=0.0)
    for name, run in TRAINING_RUNS.items():
        results = [train(lora_model(m, 8, 8, ["q_proj", "v_proj"], 203, 0.0).train(), **run) for m in (base, exact)]
        (record, final, bias), (exact_record, exact_final, _) = results
        tensors.update({f"{name}.{k}": v for k, v in final.items()})
        if bias:
            tensors[f"{name}.bias_gradient_step_0"], tensors[f"{name}.bias"] = bias
        loss, exact_loss = np.array(record["loss"]), np.array(exact_record["loss"])
        scalars[name] = {
            **run,
            **record,
            "fp32_error_of_loss": float(np.abs(loss - exact_loss).max()),
            "fp32_error_of_adapter": worst(final, exact_final),
        }
    return start, tensors, scalars


def validation_series():
    """Six token series of unequal lengths: whole windows exactly, one token over, and shorter than a window."""
    lengths = [300, 256, 257, 150, 199, 100]
    return [series_ids(90 + index, 100)[:length] for index, length in enumerate(lengths)]


def validation_windows(series):
    """ids [n, 128] padded right, the series and the number of real tokens of each window; stride = context."""
    rows, owner, real = [], [], []
    for index, ids in enumerate(series):
        for start in range(0, len(ids), VALIDATION_CONTEXT):
            piece = ids[start : start + VALIDATION_CONTEXT]
            rows.append(piece + [PAD] * (VALIDATION_CONTEXT - len(piece)))
            owner.append(index)
            real.append(len(piece))
    return torch.tensor(rows), torch.tensor(owner), torch.tensor(real)


def window_sums(model, ids, real):
    """Per window: loss sum and label count with pads counted, and with pads masked (no attention mask in either)."""
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), ids[:, 1:].flatten(), reduction="none")
    losses = losses.view(len(ids), -1)
    is_text = torch.arange(1, ids.shape[1])[None, :] < real[:, None]
    counted = (losses.sum(dim=1), torch.full((len(ids),), ids.shape[1] - 1))
    masked = ((losses * is_text).sum(dim=1), is_text.sum(dim=1))
    return counted, masked


def record_validation(base, adapted):
    """Part d: window losses of the checkpoint alone and with the adapter of part b."""
    series = validation_series()
    ids, owner, real = validation_windows(series)
    tensors = {"input_ids": ids, "series": owner, "n_real": real, "series_ids": torch.tensor(sum(series, []))}
    tensors["series_offset"] = torch.tensor(np.cumsum([0] + [len(s) for s in series]))
    scalars = {"context": VALIDATION_CONTEXT, "stride": VALIDATION_CONTEXT, "pad_id": PAD}
    for name, model in (("base", base), ("adapter_all", adapted)):
        scalars[name] = {}
        for kind, (sums, counts) in zip(("counted", "masked"), window_sums(model, ids, real)):
            tensors[f"{name}.{kind}.loss_sum"] = sums
            tensors[f"{name}.{kind}.n_labels"] = counts
            scalars[name][kind] = float(sums.sum() / counts.sum())
    return tensors, scalars


def record_greedy(base, adapted):
    """Part e: 60 new tokens for prompts of three lengths, one at a time, and how safe each argmax is."""
    prompts = [series_ids(80 + index, points) + tiny_checkpoint.encode(";") for index, points in enumerate((8, 20, 45))]
    tensors, scalars = {}, {"new_tokens": NEW_TOKENS}
    for index, prompt in enumerate(prompts):
        tensors[f"prompt_{index}"] = torch.tensor(prompt)
    for name, model in (("base", base), ("adapter_all", adapted)):
        config = GenerationConfig(
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=PAD,
            output_logits=True,
            return_dict_in_generate=True,
        )
        scalars[name] = []
        for index, prompt in enumerate(prompts):
            ids = torch.tensor([prompt])
            with torch.no_grad():
                result = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
            new = result.sequences[0, len(prompt) :]
            assert len(new) == NEW_TOKENS, "the recorded forecasts have no end-of-text token"
            top = torch.stack(result.logits)[:, 0].float().topk(2, dim=-1).values
            tensors[f"{name}.ids_{index}"] = new.clone()
            gap = top[:, 0] - top[:, 1]
            tensors[f"{name}.gap_{index}"] = gap.clone()
            scalars[name].append({"text": tiny_checkpoint.decode(new.tolist()), "smallest_gap": float(gap.min())})
    return tensors, scalars


def record_left_padding(base, adapted):
    """Part h: rows padded on the left, no attention mask, positions 0 to S-1, pad labels ignored."""
    n_pads = [0, 10, 33, 57]
    rows, labels = [], []
    for row, pads in enumerate(n_pads):
        text = series_ids(70 + row, 100)[: CONTEXT - pads]
        rows.append([PAD] * pads + text)
        labels.append([IGNORED] * pads + text)
    ids, labels = torch.tensor(rows), torch.tensor(labels)
    tensors, scalars = {"input_ids": ids, "labels": labels}, {"n_pads": n_pads}
    for name, model in (("base", base), ("adapter_all", adapted)):
        with torch.no_grad():
            output = model(input_ids=ids, labels=labels, use_cache=False)
            reference = copy.deepcopy(model).double()(input_ids=ids, labels=labels, use_cache=False)
        tensors[f"{name}.logits"] = output.logits
        scalars[name] = {
            "loss": output.loss.item(),
            "loss_fp64": reference.loss.item(),
            "fp32_error_of_logits": largest_relative(output.logits, reference.logits),
        }
    return tensors, scalars


def record_head(base, exact):
    """Part i: gradient of the tied embedding and head weight, whole and by use, batch of part a, no adapter."""
    ids, labels = forward_batch()
    results = []
    for model in (base, exact):
        model = copy.deepcopy(model)
        table = model.get_input_embeddings().weight
        table.requires_grad_(True)
        model(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        whole = table.grad.clone()
        table.grad = None
        embedded = model.get_input_embeddings()(ids).detach()
        model(inputs_embeds=embedded, labels=labels, use_cache=False).loss.backward()
        results.append({"gradient": whole, "gradient_head": table.grad.clone()})
        results[-1]["gradient_embedding"] = whole - table.grad
    return results[0], {"fp32_error_of_gradient": worst(results[0], results[1])}
