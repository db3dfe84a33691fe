/* How long something takes. The time of day, which is noted beside results and may be set back, is not this. */
#pragma once

/* Seconds of a clock that nobody sets and that never goes back. Only the difference of two readings by one process
 * means something; to the nanosecond where the system has it. From any thread. */
double clock_steady(void);
