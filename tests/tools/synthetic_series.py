"""Generic numeric series as LLMTIME text, the corpus of the embedded tiny checkpoint.

What it is: waves, damped waves, pulses, decays, growth, walks, autoregressions, chaotic maps, their sums; 1-3 channels.
What it is not: predator-prey systems; no generator integrates one, so that fine-tuning has something to learn.
Invariant: everything is drawn from the NumPy generator that the caller passes; the same seed gives the same text.
"""

import numpy as np

SCALED_PERCENTILE = 95.0
SCALED_TO = 10.0


def wave(rng, times):
    """Sum of one to three sinusoids; harmonics of one period as often as free periods."""
    period = np.exp(rng.uniform(np.log(5.0), np.log(90.0)))
    result = np.zeros_like(times)
    for index in range(rng.integers(1, 4)):
        this_period = period / (index + 1) if rng.random() < 0.5 else np.exp(rng.uniform(np.log(5.0), np.log(90.0)))
        amplitude = rng.uniform(0.3, 1.0) / (1.0 + index)
        result += amplitude * np.sin(2.0 * np.pi * (times / this_period + rng.random()))
    return result


def peaked_wave(rng, times):
    """exp of a sinusoid: sharp peaks above long low stretches, sometimes skewed."""
    period = np.exp(rng.uniform(np.log(6.0), np.log(70.0)))
    phase = 2.0 * np.pi * (times / period + rng.random())
    skew = rng.uniform(0.0, 0.8)
    return np.exp(rng.uniform(0.3, 3.5) * np.sin(phase + skew * np.sin(phase)))


def damped_wave(rng, times):
    """A wave whose amplitude decays (or slowly grows) towards a constant level."""
    rate = rng.uniform(-0.3, 3.0) / len(times)
    shape = peaked_wave if rng.random() < 0.4 else wave
    values = shape(rng, times)
    return values.mean() + (values - values.mean()) * np.exp(-rate * times)


def pulse_wave(rng, times):
    """Square, triangle or sawtooth."""
    phase = (times / np.exp(rng.uniform(np.log(6.0), np.log(60.0))) + rng.random()) % 1.0
    kind = rng.integers(3)
    if kind == 0:
        return (phase < rng.uniform(0.2, 0.8)).astype(float)
    if kind == 1:
        return np.abs(2.0 * phase - 1.0)
    return phase


def decay(rng, times):
    """Exponential decay or saturation, or a straight line."""
    rate = np.exp(rng.uniform(np.log(0.5), np.log(12.0))) / len(times)
    kind = rng.integers(3)
    if kind == 0:
        return rng.uniform(0.0, 0.5) + np.exp(-rate * times)
    if kind == 1:
        return rng.uniform(1.0, 1.5) - np.exp(-rate * times)
    return rng.uniform(0.0, 1.0) + times * rng.uniform(-1.0, 1.0) / len(times)


def growth(rng, times):
    """A sigmoid between two levels, or a bump."""
    centre = rng.uniform(0.1, 0.9) * len(times)
    width = rng.uniform(0.02, 0.2) * len(times)
    argument = np.clip((times - centre) / width, -30.0, 30.0)
    if rng.random() < 0.5:
        return 1.0 / (1.0 + np.exp(-argument))
    return rng.uniform(0.0, 0.3) + np.exp(-0.5 * argument**2)


def walk(rng, times):
    """Random walk: plain, geometric, or with momentum (smooth)."""
    steps = rng.normal(size=len(times))
    kind = rng.integers(3)
    if kind == 0:
        return np.cumsum(steps)
    if kind == 1:
        return np.exp(0.1 * np.cumsum(steps))
    memory = rng.uniform(0.7, 0.98)
    return np.cumsum(recursion(steps, memory, 0.0))


def recursion(noise, first, second):
    """x[t] = first x[t-1] + second x[t-2] + noise[t]."""
    values = np.empty_like(noise)
    before = last = 0.0
    for index, term in enumerate(noise):
        before, last = last, first * last + second * before + term
        values[index] = last
    return values


def autoregression(rng, times):
    """AR(1), or AR(2) with a damped cycle kept alive by noise."""
    noise = rng.normal(size=len(times))
    if rng.random() < 0.5:
        return recursion(noise, rng.uniform(0.3, 0.98), 0.0)
    radius, period = rng.uniform(0.8, 0.995), rng.uniform(6.0, 40.0)
    return recursion(noise, 2.0 * radius * np.cos(2.0 * np.pi / period), -(radius**2))


def chaotic_map(rng, times):
    """Logistic map from its periodic to its chaotic range, or a tent map."""
    value = rng.uniform(0.1, 0.9)
    growth_rate = rng.uniform(2.8, 4.0)
    tent = rng.random() < 0.2
    values = np.empty(len(times))
    for index in range(len(times)):
        values[index] = value
        value = 0.49 * growth_rate * min(value, 1.0 - value) if tent else growth_rate * value * (1.0 - value)
    return values


GENERATORS = (wave, peaked_wave, damped_wave, pulse_wave, decay, growth, walk, autoregression, chaotic_map)
WEIGHTS = np.array([0.2, 0.2, 0.2, 0.05, 0.07, 0.05, 0.09, 0.09, 0.05])


def single_channel(rng, times):
    """One generator, or a weighted sum or product of two."""
    first = GENERATORS[rng.choice(len(GENERATORS), p=WEIGHTS)](rng, times)
    if rng.random() < 0.75:
        return first
    second = GENERATORS[rng.choice(len(GENERATORS), p=WEIGHTS)](rng, times)
    first = first / (np.std(first) + 1e-9)
    second = second / (np.std(second) + 1e-9)
    if rng.random() < 0.7:
        return first + rng.uniform(0.1, 1.0) * second
    return (first - first.min()) * (second - second.min())


def coupled_channel(rng, source, length):
    """A lagged, smoothed or mirrored view of a longer source series; source has at least length + 40 points."""
    lag = rng.integers(0, 30)
    values = source[40 - lag : 40 - lag + length].copy()
    choice = rng.random()
    if choice < 0.2:
        values = recursion(values - values.mean(), rng.uniform(0.3, 0.9), 0.0)
    elif choice < 0.35:
        values = -values
    elif choice < 0.5:
        values = np.exp((values - values.mean()) / (values.std() + 1e-9))
    return values


def raw_series(rng, length, channels):
    """(length, channels) float64, not yet shifted or scaled; channels of one system half of the time."""
    times = np.arange(length + 40, dtype=float)
    source = single_channel(rng, times)
    columns = [source[40:]]
    for _ in range(1, channels):
        if rng.random() < 0.65:
            columns.append(coupled_channel(rng, source, length))
        else:
            columns.append(single_channel(rng, times)[40:])
    return np.stack(columns, axis=1)


def series(rng, length, channels):
    """(length, channels) float64: mostly positive, the largest 95th percentile of the channels is 10."""
    values = raw_series(rng, length, channels)
    values = values / (np.abs(values).max(axis=0) + 1e-9)
    spread = values.max(axis=0) - values.min(axis=0)
    floor = rng.choice([0.0, 0.02, 0.1, 0.5, 2.0], p=[0.25, 0.25, 0.25, 0.2, 0.05], size=channels) * spread
    if rng.random() < 0.9:
        values = values - values.min(axis=0) + floor
    values = values * np.exp(rng.normal(0.0, 0.6, size=channels))
    if rng.random() < 0.2:
        values = values + rng.normal(0.0, rng.choice([0.01, 0.03]), size=values.shape) * values.std(axis=0)
    largest = np.percentile(values, SCALED_PERCENTILE, axis=0).max()
    largest = max(largest, 0.05 * np.abs(values).max(), 1e-6)
    return np.clip(values * (SCALED_TO / largest), -99.0, 999.0)


def text(values, decimals):
    """LLMTIME text of (length, channels): "1.20,3.40;1.10,3.50", no zero with a minus sign."""
    points = []
    for point in values:
        fields = [f"{value:.{decimals}f}" for value in point]
        points.append(",".join("0" + f[2:] if f.startswith("-0") and float(f) == 0.0 else f for f in fields))
    return ";".join(points)


def document(rng):
    """The text of one random series."""
    length = int(np.exp(rng.uniform(np.log(30.0), np.log(200.0)))) if rng.random() < 0.6 else 100
    channels = int(rng.choice([1, 2, 3], p=[0.25, 0.6, 0.15]))
    decimals = int(rng.choice([1, 2, 3], p=[0.07, 0.86, 0.07]))
    return text(series(rng, length, channels), decimals)


def window(rng, length, encode, end_of_text):
    """length token ids: a document from a random character on, then further documents behind an end-of-text token.

    A tenth of the windows ends with padding in place of further documents.
    """
    ids = encode(document(rng))
    if rng.random() < 0.7:
        ids = ids[rng.integers(0, max(1, len(ids) - length // 4)) :]
    if rng.random() < 0.1:
        ids = (ids + [end_of_text] * length)[:length]
    while len(ids) < length:
        ids = ids + [end_of_text] + encode(document(rng))
    return ids[:length]
