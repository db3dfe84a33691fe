import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

path = "run.lvsweep/results.h5"
ds = xr.open_dataset(path)
fc = xr.open_dataset(path, group="forecast").assign_coords(trial=ds.trial, channel=ds.channel)
best = int(ds.val_loss.argmin("trial"))
error = fc.mae.isel(trial=best).mean("channel").values  # (series)
order = np.argsort(error)
figure, axes = plt.subplots(3, 1, figsize=(6, 7), sharex=True)
for axis, word, at in zip(axes, ("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1])):
    for channel in fc.channel.values:
        one = fc.isel(series=int(at)).sel(channel=channel)
        line = axis.plot(fc.time, one.observed, label=f"{channel}, observed")[0]
        axis.plot(fc.time, one.predicted.isel(trial=best), "--", color=line.get_color(), label=f"{channel}, forecast")
        if "predicted_q05" in one:  # with [evaluate] samples above 1
            low, high = one.predicted_q05.isel(trial=best), one.predicted_q95.isel(trial=best)
            axis.fill_between(fc.time, low, high, color=line.get_color(), alpha=0.2)
    axis.set_title(f"{word}: series {int(fc.series[int(at)])}, mean absolute error {error[at]:.3g}")
axes[0].legend(fontsize=6)
figure.savefig("forecasts.pdf", bbox_inches="tight")
