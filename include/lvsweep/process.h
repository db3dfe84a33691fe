/* How this process waits: settled once, before MPI and threads. */
#pragma once

/* OpenMP's waiting threads spin by default, and a rank that shares its cores then waits whole time slices at every
 * barrier (measured: 43 s instead of 5 s on a busy machine). Their spinning can be limited by the environment only,
 * which the library reads at load: starts the program again with GOMP_SPINCOUNT set, unless the user chose a way to
 * wait. Returns when nothing was to be done, or when starting again failed. */
void process_limit_spinning(char **argv);
