/* The time of day, which is noted beside results and compared between processes, and a clock for durations. */
#pragma once

/* Seconds since 1970 UTC. May be set, back too, while the program runs. */
double clock_now(void);

/* Seconds of a clock that nobody sets and that never goes back. Only the difference of two readings by one process
 * means something; to the nanosecond where the system has it. From any thread. */
double clock_steady(void);
