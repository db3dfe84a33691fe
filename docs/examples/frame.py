import xarray as xr

ds = xr.open_dataset("run.lvsweep/results.h5")
flat = ds.drop_dims(["step", "evaluation", "baseline", "stage"])
for channel in ds.channel.values:
    flat[f"val_mae_{channel}"] = ds.val_mae.sel(channel=channel, drop=True)
frame = flat.drop_dims("channel").to_dataframe()

meanings = dict(zip(ds.status.attrs["flag_values"], ds.status.attrs["flag_meanings"].split()))
frame["status"] = frame["status"].map(meanings)
done = frame[frame.status == "done"].sort_values("val_loss")
untrained = float(ds.baseline_val_loss.sel(baseline=ds.baseline.str.startswith("untrained")).min())
print(done[["name", "lora_rank", "learning_rate", "context", "val_loss", "flops_counted"]].to_string(index=False))
print(f"untrained {untrained:.3f}, best {done.val_loss.iloc[0]:.3f}")
print(frame.groupby("trial_stage").flops_counted.sum())
