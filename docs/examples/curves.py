import matplotlib.pyplot as plt
import xarray as xr

ds = xr.open_dataset("run.lvsweep/results.h5")
figure, axes = plt.subplots(figsize=(6, 4))
for trial in ds.trial[(ds.n_step > 0).values].values:
    run = ds.sel(trial=trial)
    loss = run.train_loss.rolling(step=10, min_periods=1).mean()  # of ten steps
    axes.plot(ds.step, loss, label=str(run["name"].values))
    axes.plot(run.evaluation_step, run.val_loss_curve, "o", color=axes.lines[-1].get_color())  # [evaluate] every
axes.set_xlabel("step")
axes.set_ylabel("loss (nat per token)")
axes.legend(fontsize=6)
figure.savefig("curves.pdf", bbox_inches="tight")
