"""Golden recordings without a model: sampling, learning rates, scaling, LLMTIME text, predator-prey solutions.

What it is: transformers' logits processors, PyTorch's and transformers' schedules, NumPy's percentiles, SciPy's DOP853.
What it is not: anything of the checkpoint (golden_model.py).
Invariant: every record_ function returns (tensors, scalars) and draws only from seeds written here.
"""

import functools

import numpy as np
import torch
from scipy.integrate import solve_ivp
from transformers import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

SCHEDULE_STEPS = 600
PEAK_RATE = 1e-4
SOLUTIONS = (  # a, b, c, d, prey at 0, predator at 0
    (0.50, 0.50, 0.30, 0.40, 1.0, 0.5),
    (0.90, 1.10, 0.45, 0.60, 0.4, 1.2),
    (0.25, 0.40, 0.35, 0.55, 0.9, 0.2),
    (1.20, 0.70, 0.80, 0.50, 2.0, 1.0),
    (0.10, 0.20, 0.15, 0.10, 1.4, 0.6),
)
TIMES = np.linspace(0.0, 200.0, 100)


def lotka_volterra(parameters, times=TIMES):
    """(times, 2) float64: x' = a x - b x y, y' = -c y + d x y."""
    a, b, c, d, prey, predator = parameters

    def rates(_, state):
        x, y = state
        return [a * x - b * x * y, -c * y + d * x * y]

    span = (0.0, times[-1])
    result = solve_ivp(rates, span, [prey, predator], method="DOP853", t_eval=times, rtol=1e-12, atol=1e-12)
    assert result.success, result.message
    return result.y.T


def llmtime_text(values, decimals):
    """LLMTIME text of (time, channel): ',' between channels, ';' between time points, none at the end."""
    return ";".join(",".join(f"{value:.{decimals}f}" for value in point) for point in values)


@functools.lru_cache(maxsize=None)
def predator_prey_series(index):
    """(100, 2) float64 of random system number index, scaled so that the larger 95th percentile is 10."""
    rng = np.random.default_rng([77, index])
    parameters = (*rng.uniform([0.1, 0.2, 0.1, 0.2], [0.6, 0.9, 0.5, 0.8]), *rng.uniform(0.3, 1.5, size=2))
    values = lotka_volterra(parameters)
    return values * (10.0 / np.percentile(values, 95.0, axis=0).max())


def predator_prey_text(index, points):
    return llmtime_text(predator_prey_series(index)[:points], 2)


SAMPLING_SETTINGS = (
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.1},
    {"temperature": 0.9, "top_k": None, "top_p": 0.9, "repetition_penalty": 1.0},
    {"temperature": 1.0, "top_k": 3, "top_p": 1.0, "repetition_penalty": 1.0},
)


def processed(logits, seen, setting):
    """Scores [rows, V] in the order of transformers' generate: penalty, temperature, top-k, top-p; dropped are -inf."""
    scores = logits.clone()
    if setting["repetition_penalty"] != 1.0:
        scores = RepetitionPenaltyLogitsProcessor(setting["repetition_penalty"])(seen, scores)
    if setting["temperature"] != 1.0:
        scores = TemperatureLogitsWarper(setting["temperature"])(seen, scores)
    if setting["top_k"] is not None:
        scores = TopKLogitsWarper(setting["top_k"])(seen, scores)
    if setting["top_p"] < 1.0:
        scores = TopPLogitsWarper(setting["top_p"])(seen, scores)
    return scores


def record_sampling(model_logits, model_seen):
    """Part f: four rows of the checkpoint (16 tokens) and four random rows of 64 tokens, where top-k 20 drops some."""
    generator = torch.Generator().manual_seed(303)
    rows = {
        "model": (model_logits, model_seen),
        "random": (
            2.5 * torch.randn((4, 64), generator=generator),
            torch.randint(0, 64, (4, 12), generator=generator),
        ),
    }
    tensors = {}
    for name, (logits, seen) in rows.items():
        tensors[f"{name}.logits"], tensors[f"{name}.seen_ids"] = logits.clone(), seen.clone()
        for index, setting in enumerate(SAMPLING_SETTINGS):
            scores = processed(logits, seen, setting)
            tensors[f"{name}.kept_{index}"] = (~torch.isinf(scores)).long()
            tensors[f"{name}.probability_{index}"] = torch.softmax(scores, dim=-1)
    return tensors, {"settings": list(SAMPLING_SETTINGS)}


def learning_rates(make_schedule):
    """Learning rate used by each of the 600 steps, float64; the peak is 1e-4."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK_RATE)
    schedule = make_schedule(optimizer)
    rates = []
    for _ in range(SCHEDULE_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return torch.tensor(rates, dtype=torch.float64)


def one_cycle(optimizer, anneal, fraction, final_div):
    """OneCycleLR; one step more than used, because PyTorch refuses to step behind its last one."""
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=PEAK_RATE,
        total_steps=SCHEDULE_STEPS,
        pct_start=fraction,
        anneal_strategy=anneal,
        div_factor=25.0,
        final_div_factor=final_div,
        cycle_momentum=False,
    )
    step = schedule.step
    schedule.step = lambda: step() if schedule.last_epoch < SCHEDULE_STEPS - 1 else None
    return schedule


def record_learning_rates():
    """Part g."""
    tensors, scalars = {}, {"steps": SCHEDULE_STEPS, "peak": PEAK_RATE, "one_cycle": {}, "warmup": {}}
    cases = [("cos", 0.1, 1e4), ("cos", 0.3, 1e4), ("cos", 0.25, 100.0), ("linear", 0.1, 100.0)]
    cases += [("linear", 0.3, 1e4), ("linear", 100 / 600, 100.0)]
    for index, (anneal, fraction, final_div) in enumerate(cases):
        name = f"one_cycle_{index}"
        tensors[name] = learning_rates(lambda o, c=(anneal, fraction, final_div): one_cycle(o, *c))
        scalars["one_cycle"][name] = {"anneal": anneal, "pct_start": fraction, "div": 25.0, "final_div": final_div}
    for kind, make in (("cosine", get_cosine_schedule_with_warmup), ("linear", get_linear_schedule_with_warmup)):
        for warmup in (0, 60, 100):
            name = f"{kind}_warmup_{warmup}"
            tensors[name] = learning_rates(lambda o, m=make, w=warmup: m(o, w, SCHEDULE_STEPS))
            scalars["warmup"][name] = {"kind": kind, "warmup_steps": warmup}
    return tensors, scalars


def raw_array():
    """[6, 40, 2] float32: four predator-prey systems of different sizes, a noisy one, one with values below zero."""
    rng = np.random.default_rng(404)
    factors = (1.0, 0.013, 250.0, 3.0, 1.0, 1.0)
    array = np.stack([predator_prey_series(60 + index)[:40] * factor / 7.0 for index, factor in enumerate(factors)])
    array[4] += np.abs(rng.normal(0.0, 0.05, size=array[4].shape))
    array[5] -= 0.4
    return array.astype(np.float32)


def record_scaling():
    """Part j, first half: percentiles, scale factors (scaled = value / factor) and texts, computed in float64."""
    array = raw_array()
    values = array.astype(np.float64)
    tensors = {"values": torch.tensor(array)}
    for percentile in (90, 95, 99):
        tensors[f"percentile_{percentile}"] = torch.tensor(np.percentile(values, percentile, axis=1))
    tensors["percentile_95_first_20_points"] = torch.tensor(np.percentile(values[:, :20], 95, axis=1))
    tensors["percentile_99_all_series"] = torch.tensor(np.percentile(values, 99, axis=(0, 1)))
    series_max = np.percentile(values, 95, axis=1).max(axis=1) / 10.0
    tensors["factor_series_max_95_to_10"] = torch.tensor(series_max)
    tensors["factor_variable_99_to_10"] = torch.tensor(np.percentile(values, 99, axis=1) / 10.0)
    tensors["factor_train_100_to_9.99"] = torch.tensor([values[:4].max() / 9.99])
    scaled = values / series_max[:, None, None]
    assert not np.any((scaled < 0.0) & (scaled > -0.005)), "no value whose text is a zero with a minus sign"
    texts = {f"decimals_{d}": [llmtime_text(one, d) for one in scaled] for d in (1, 2, 3)}
    by_variable = values / (np.percentile(values, 99, axis=1) / 10.0)[:, None, :]
    texts["decimals_2_variable_99"] = [llmtime_text(one, 2) for one in by_variable]
    float32_factor = np.percentile(array, 95, axis=1).max(axis=1) / 10
    differing = [llmtime_text(array[i] / float32_factor[i], 2) != texts["decimals_2"][i] for i in range(len(array))]
    return tensors, {"text": texts, "series_whose_text_differs_in_float32": int(sum(differing))}


def record_solutions():
    """Part j, second half: SciPy's DOP853 at rtol = atol = 1e-12 for five systems, 100 times in [0, 200]."""
    tensors = {"time": torch.tensor(TIMES), "parameters": torch.tensor(SOLUTIONS, dtype=torch.float64)}
    tensors["solution"] = torch.tensor(np.stack([lotka_volterra(p) for p in SOLUTIONS]))
    return tensors, {"parameters": ["a", "b", "c", "d", "prey", "predator"], "rtol": 1e-12, "atol": 1e-12}
