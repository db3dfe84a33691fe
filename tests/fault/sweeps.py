"""What the fault tests share: tiny sweeps, running them with a fault armed, and what must hold afterwards."""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mpi"))
import harness

# One process needs nobody to meet: without these, Open MPI starts a daemon for it, and lvsweep starts itself again.
ALONE = {"OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self",
         "GOMP_SPINCOUNT": "1000"}

# What a fault may change: how often something was tried and what that cost, never a result.
ATTEMPTS = {"attempt", "flops_lost", "flops_executed", "error", "pack_width"}

FAKE = """
[stage.search]
rank = 2, 4
learning_rate = 1e-4
steps = 20
[stage.final]
from = best
steps = 50
[budget]
flops = 1e13
[run]
runner = fake
fake = {fake}
threads = 1
retries = 3
[evaluate]
loss = yes
"""


def fake_ini(where, fake="loss:0.3", name="fake.ini"):
    ini = where / name
    ini.write_text(FAKE.format(fake=fake))
    return ini


def small_model(where, hidden=16, vocabulary=16):
    """A random Qwen2 of one layer, with the quickstart's tokenizer: a training step takes a millisecond."""
    shipped, folder = harness.SOURCE / "sweeps/quickstart/model", where / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shipped / name, folder)
    config = json.loads((shipped / "config.json").read_text())
    config.update(hidden_size=hidden, intermediate_size=hidden, num_hidden_layers=1, num_attention_heads=2,
                  num_key_value_heads=1, vocab_size=vocabulary)
    (folder / "config.json").write_text(json.dumps(config))
    half, layer = hidden // 2, "model.layers.0."
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,),
              layer + "input_layernorm.weight": (hidden,), layer + "post_attention_layernorm.weight": (hidden,),
              layer + "self_attn.q_proj.weight": (hidden, hidden), layer + "self_attn.q_proj.bias": (hidden,),
              layer + "self_attn.k_proj.weight": (half, hidden), layer + "self_attn.k_proj.bias": (half,),
              layer + "self_attn.v_proj.weight": (half, hidden), layer + "self_attn.v_proj.bias": (half,),
              layer + "self_attn.o_proj.weight": (hidden, hidden), layer + "mlp.gate_proj.weight": (hidden, hidden),
              layer + "mlp.up_proj.weight": (hidden, hidden), layer + "mlp.down_proj.weight": (hidden, hidden)}
    draw, header, data = random.Random(1), {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * count if "norm" in name else [draw.gauss(0, 0.1) for _ in range(count)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack(f"<{count}f", *values)
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


SMALL = """
[data]
file = {data}
[model]
path = {model}
[stage.search]
rank = 2
learning_rate = 1e-3
context = 32
batch = 2
steps = 4
[stage.final]
from = best
steps = 8
[budget]
flops = none
[evaluate]
forecast_on = validation
series = 1
horizon = 2
history = 3
every = 2
[run]
backend = cpu
threads = 1
checkpoint_every = 0.001s
retries = 3
"""


def small_ini(where):
    """Real training, evaluation and checkpoints in a tenth of a second."""
    harness.run(0, "simulate", "-o", where / "data.h5", "--systems", "8", "--seed", "3", "--points", "20")
    ini = where / "small.ini"
    ini.write_text(SMALL.format(data=where / "data.h5", model=small_model(where)))
    return ini


def results(output):
    return [{key: value for key, value in row.items() if key not in ATTEMPTS} for row in harness.numbers(output)]


def events(output):
    with open(output / "journal.jsonl", encoding="utf-8") as journal:
        return [json.loads(line) for line in journal]


def ledger_faults(output):
    """Adds the journal's charges up again and compares them with the table's."""
    charged, reserved, cap, spent, lost, faults = {}, {}, 0, 0, 0, []
    for event in events(output):
        kind, index = event["e"], event.get("i", event.get("index"))
        if kind == "sweep":
            cap = event["sweep"].get("flops_cap") or 0
            reserved.clear()
        elif kind == "admitted":
            reserved[index] = reserved.get(index, 0) + event["flops"]
            if cap and spent + sum(reserved.values()) > cap:
                faults.append(f"line {event['n']} passes the cap")
        elif kind == "settle":
            if event["flops"] > reserved.pop(index, 0):
                faults.append(f"line {event['n']} charges more than was reserved")
            charged[index] = charged.get(index, 0) + event["flops"]
            spent += event["flops"]
            lost += event.get("lost", 0)
    rows = harness.table(output)
    for index, row in enumerate(rows):
        if int(row["flops_counted"]) != charged.get(index, 0):
            faults.append(f"trial {index}: {row['flops_counted']} in the table, {charged.get(index, 0)} in the journal")
    told = sum(int(row["flops_lost"] or 0) for row in rows)
    if told != lost:
        faults.append(f"{told} FLOPs lost in the table, {lost} in the journal")
    if reserved:
        faults.append(f"reserved for ever: {reserved}")
    return faults


def differences(expected, output):
    """Why the sweep in `output` is not what an undisturbed one leaves; empty when it is."""
    got = results(output)
    faults = ledger_faults(output)
    if len(got) != len(expected):
        faults.append(f"{len(got)} rows, not {len(expected)}")
    for before, after in zip(expected, got):
        faults += [f"{before['name']}: {key}: {after[key]} instead of {before[key]}"
                   for key in before if before[key] != after[key]]
    if not (output / "results.h5").exists():
        faults.append("no results.h5")
    left = [p.name for p in output.iterdir() if p.name == "lock" or ".new" in p.name]
    if left:
        faults.append(f"left behind: {left}")
    return faults


def run(ranks, arguments, environment=None, timeout=60):
    """(exit code, text); the code is None when it did not end, and then everything of it is killed."""
    with tempfile.TemporaryDirectory(prefix="lvsweep-mpi-") as own:  # killed runs leave Open MPI's files behind
        variables = dict(harness.ENVIRONMENT, **({} if ranks else ALONE), **(environment or {}))
        variables["OMPI_MCA_orte_tmpdir_base"] = own  # runs at the same time would meet in one folder
        return run_within(ranks, arguments, variables, timeout)


def run_within(ranks, arguments, variables, timeout):
    process = subprocess.Popen(harness.command(ranks, *arguments), env=variables, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        text, _ = process.communicate(timeout=timeout)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        text, _ = process.communicate()
        return None, text
