import xarray as xr

search = xr.open_dataset("run.lvsweep/results.h5").sel(stage="search")
print(search.val_loss.where(search.in_stage == 1).to_dataframe().pivot_table("val_loss", "lora_rank", "learning_rate"))
