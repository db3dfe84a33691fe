import matplotlib.pyplot as plt
import xarray as xr

ds = xr.open_dataset("run.lvsweep/results.h5")
search = ds.sel(stage="search")
search = search.where(search.in_stage == 1, drop=True)
grid = search.set_index(trial=["lora_rank", "learning_rate", "seed"]).unstack("trial")
loss = grid.val_loss.mean("seed")  # (lora_rank, learning_rate); a cell that the budget cut is NaN

figure, axes = plt.subplots(figsize=(5, 3.5))
image = axes.imshow(loss, cmap="viridis_r", aspect="auto")
axes.set_xticks(range(loss.sizes["learning_rate"]), [f"{rate:g}" for rate in loss.learning_rate.values])
axes.set_yticks(range(loss.sizes["lora_rank"]), [f"{rank:g}" for rank in loss.lora_rank.values])
axes.set_xlabel("learning rate")
axes.set_ylabel("LoRA rank")
figure.colorbar(image, label="validation loss (nat per token)")
figure.savefig("heatmap.pdf", bbox_inches="tight")
