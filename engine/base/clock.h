/* Time that never jumps. Thread: any. */
#ifndef ENGINE_BASE_CLOCK_H
#define ENGINE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds and milliseconds since some fixed moment (CLOCK_MONOTONIC). */
uint64_t clock_now_ns(void);
uint64_t clock_now_ms(void);

/* Nanoseconds of another clock, which is there: a thread's CPU time (pthread_getcpuclockid). */
uint64_t clock_read_ns(clockid_t clock);

#endif
