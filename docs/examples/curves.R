library(ncdf4)
nc <- nc_open("run.lvsweep/results.h5")
loss <- ncvar_get(nc, "train_loss") # step, trial: R's order of dimensions is the reverse of the file's
step <- ncvar_get(nc, "step")
pdf("curves-r.pdf", width = 6, height = 4)
matplot(step, loss, type = "l", lty = 1, xlab = "step", ylab = "training loss (nat per token)")
legend("topright", legend = ncvar_get(nc, "name"), col = seq_len(ncol(loss)), lty = 1, cex = 0.5)
invisible(dev.off())

predicted <- ncvar_get(nc, "forecast/predicted") # channel, time, series, trial
observed <- ncvar_get(nc, "forecast/observed") # channel, time, series
best <- which.min(ncvar_get(nc, "val_loss"))
cat("mean absolute error of the best trial's forecasts:",
    round(mean(abs(predicted[, , , best] - observed), na.rm = TRUE), 4), "\n")
nc_close(nc)
