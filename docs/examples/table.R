library(ncdf4)
nc <- nc_open("run.lvsweep/results.h5")
runs <- data.frame(rank = ncvar_get(nc, "lora_rank"), rate = ncvar_get(nc, "learning_rate"), loss = ncvar_get(nc, "val_loss"))
inside <- ncvar_get(nc, "in_stage")[match("search", ncvar_get(nc, "stage")), ] == 1
print(tapply(runs$loss[inside], runs[inside, c("rank", "rate")], mean))
nc_close(nc)
