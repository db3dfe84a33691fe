"""Opens a results.h5 of the sample table (FILE N_TRIALS) the ways a user does; exits with an error when a value is off."""
import sys
import warnings

import h5py
import numpy as np
import xarray as xr

warnings.simplefilter("ignore", DeprecationWarning)
path, trials = sys.argv[1], int(sys.argv[2])


def check_types(name, item):
    """Only types that every reader knows; a scale on every axis."""
    if not isinstance(item, h5py.Dataset):
        return
    text = h5py.check_string_dtype(item.dtype)
    assert text is None or (text.length is None and text.encoding == "utf-8"), f"{name}: fixed-length text"
    assert text or item.dtype in ("f8", "f4", "i8", "i4", "u1"), f"{name}: {item.dtype}"
    for axis in item.dims:
        assert len(axis) == 1 or item.attrs.get("CLASS") == b"DIMENSION_SCALE", f"{name}: an axis without its scale"
    assert item.ndim == 0 or "long_name" in item.attrs, f"{name}: no long_name"


with h5py.File(path) as file:
    file.visititems(check_types)
    assert file.attrs["schema_version"] == "1.0" and file.attrs["Conventions"].startswith("CF-")
    assert {"title", "history", "source"} <= set(file.attrs)
    assert file["config/given"][()].decode() == '[a]\nb = "c\\d"\t; é\n'
    assert file["provenance/git_commit"][()] == b"0123abc"
    assert file["ledger/spent"].attrs["exact"] == str(600001800 * trials + 3003)
    assert file["status"].attrs["flag_meanings"].split()[2] == "done"

for engine in ("h5netcdf", "netcdf4"):
    ds = xr.open_dataset(path, engine=engine)
    assert ds.sizes["trial"] == trials and list(ds.channel.values) == ["prey", "predator"]
    assert list(ds.baseline.values) == ["untrained", "last_value", "mean"]
    assert float(ds.baseline_val_loss.sel(baseline="untrained")) == 1.2
    for coordinate in ("lora_rank", "learning_rate", "context", "seed"):
        assert coordinate in ds.coords and coordinate in ds.val_loss.coords
    assert ds.learning_rate.dtype == np.float64 and ds.train_loss.dtype == np.float32
    if not trials:
        continue
    assert list(ds.error.values) == [""] * trials and set(ds.device.values) == {'NVIDIA H200 ⟨GPU-5ab1⟩ "0"'}
    assert (ds.status.values == 2).all() and list(ds.in_stage.sel(stage="final").values) == [0] * (trials - 1) + [1]
    assert ds.parent.isnull().values[:-1].all() and int(ds.parent[-1]) == 0
    assert ds.train_loss.sel(trial=1, step=1) == 2 and ds.train_loss.sel(trial=2).isnull().all()
    assert list(ds.evaluation_step[1].values) == [300, 600] and ds.evaluation_step[2].isnull().all()
    np.testing.assert_array_equal(ds.val_mae_scaled_curve[1], [np.nan, 1.5])
    np.testing.assert_array_equal(ds.val_mse_scaled_curve[1], [np.nan, 3.25])
    assert ds.val_mse_scaled_curve.dims == ("trial", "evaluation") and ds.val_mse_scaled_curve[2].isnull().all()
    assert ds.val_mae.dims == ("trial", "channel") and ds.val_mae.attrs["units"] == "individuals"
    # the lines of a user's notebook
    s = ds.sel(stage="search"); s = s.where(s.in_stage == 1, drop=True)
    g = s.set_index(trial=["lora_rank", "learning_rate", "seed"]).unstack("trial")
    mean = g.val_loss.mean("seed")
    best = ds.isel(trial=ds.val_loss.argmin("trial"))
    assert mean.shape == (3, 3) and mean.notnull().all()
    assert float(best.val_loss) == ds.val_loss.min() and str(best["name"].values).startswith("r2-lr1e-05")
    try:
        import matplotlib
    except ImportError:
        pass
    else:
        matplotlib.use("Agg")
        mean.plot(yscale="log", y="learning_rate")
    f = xr.open_dataset(path, engine=engine, group="forecast")
    assert dict(f.sizes) == {"series": 16, "time": 7, "channel": 2, "trial": trials}
    error = abs(f.predicted - f.observed).mean("time").sel(trial=0)
    np.testing.assert_allclose(error, f.mae.sel(trial=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(f.mae.sel(trial=0).isel(series=0, channel=0), 0.01, rtol=0, atol=1e-12)
    assert f.mae.sel(trial=8).isnull().all() and f.predicted_q05.notnull().any()
    assert list(np.unique(f.split.values)) == [1, 2]
    for group in ("config", "provenance", "ledger"):
        xr.open_dataset(path, engine=engine, group=group).load().close()
    ds.load().close()
print(path.rsplit("/", 1)[-1], trials, "trials: read by h5py, h5netcdf, netCDF4")
