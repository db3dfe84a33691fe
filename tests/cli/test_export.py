"""lvsweep export --adapter, with and without --merge: verified copies, bytes that must not change, refusals."""
import json
import shutil
import struct

import harness

MODEL = harness.SOURCE / "sweeps/quickstart/model"


def tensors(path):
    """name -> (dtype, bytes) of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    return {name: (entry["dtype"], data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]])
            for name, entry in header.items() if name != "__metadata__"}


def floats(dtype, raw):
    if dtype == "F32":
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    words = struct.unpack(f"<{len(raw) // 2}H", raw)
    return struct.unpack(f"<{len(words)}f", b"".join(struct.pack("<I", word << 16) for word in words))


def export(*words, expect=0):
    done = harness.run(0, "export", *words, expect=expect)
    return done.stdout + done.stderr


where = harness.folder()
try:
    model = where / "model"
    shutil.copytree(MODEL, model)
    ini = harness.tiny_sweep(where, rank="2", learning_rate="1e-2", context="64", final="8")
    harness.run(0, ini, "--set", "run.threads=1", "--set", f"model.path={model}", "--set", "evaluate.forecast_on=none",
                "--set", "lora.targets=q_proj+v_proj+down_proj")
    output = where / "tiny.lvsweep"

    copy, merged = where / "copy", where / "merged"
    said = export(output, "--adapter", "best", "-o", copy)
    assert "logits differ by at most 0 (" in said, said
    best = harness.run(0, "best", output, "--path").stdout.strip()
    for name in ("adapter_model.safetensors", "adapter_config.json", "lvsweep.json"):
        assert (copy / name).read_bytes() == (where / best / "adapter" / name).read_bytes()

    # Merged: W + scale B A in the file's type; every other byte as it was.
    said = export(output, "--adapter", "best", "--merge", "-o", merged)
    assert "12 matrices merged" in said and "verified" in said, said
    kept = sorted(p.name for p in model.iterdir() if p.suffix in (".json", ".safetensors"))
    assert sorted(p.name for p in merged.iterdir()) == kept
    base, new = tensors(model / "model.safetensors"), tensors(merged / "model.safetensors")
    adapter = tensors(copy / "adapter_model.safetensors")
    scale = json.loads((copy / "adapter_config.json").read_text())
    scale = scale["lora_alpha"] / scale["r"]
    changed = [name for name in base if base[name] != new[name]]
    assert len(changed) == 12 and all(name.rsplit(".", 2)[1] in ("q_proj", "v_proj", "down_proj") for name in changed)
    for name in changed[:3]:
        module = "base_model.model." + name[:-len(".weight")]
        a, b = floats(*adapter[module + ".lora_A.weight"]), floats(*adapter[module + ".lora_B.weight"])
        w, got = floats(*base[name]), floats(*new[name])
        n_in = len(a) // 2
        for row in range(0, len(w) // n_in, 7):
            for column in range(0, n_in, 11):
                exact = w[row * n_in + column] + scale * sum(b[row * 2 + r] * a[r * n_in + column] for r in range(2))
                assert abs(got[row * n_in + column] - exact) <= abs(exact) * 2 ** -8 + 1e-9, (name, row, column)

    # The merged folder is a model like any other: its untrained loss is the adapter's.
    harness.run(0, ini, "--output", where / "after", "--set", f"model.path={merged}", "--set", "run.threads=1", "--set",
                "evaluate.forecast_on=none", "--set", "stage.search.steps=1", "--set", "stage.search.learning_rate=1e-9",
                "--set", "stage.final.steps=1", "--set", "stage.final.learning_rate=1e-9")
    before = min(float(row["val_loss"]) for row in harness.table(output))
    after = float(harness.table(where / "after")[0]["val_loss"])
    assert abs(after - before) < 0.005 * before, (before, after)

    # Refusals; nothing half-written stays.
    assert "exists already" in export(output, "--adapter", "best", "--merge", "-o", merged, expect=6)
    assert "exists already" in export(output, "--adapter", "best", "-o", copy, expect=6)
    assert "--merge goes" in export(output, "--csv", "--merge", expect=2)
    assert "nobody" in export(output, "--adapter", "nobody", "-o", where / "x", expect=2)
    model.rename(where / "moved")
    assert "--model" in export(output, "--adapter", "best", "--merge", "-o", where / "x", expect=5)
    assert "not verified" in export(output, "--adapter", "best", "-o", where / "y")
    export(output, "--adapter", "best", "--merge", "--model", where / "moved", "-o", where / "z")
    assert (where / "z/model.safetensors").read_bytes() == (merged / "model.safetensors").read_bytes()
    assert not list(where.glob("*.tmp.*")) and not (where / "x").exists()
    print(f"export: copies and merges verified; merged model's loss {after:.4f}, the adapter's {before:.4f}")
finally:
    harness.clean(where)
