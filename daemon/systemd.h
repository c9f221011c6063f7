/* The one file that knows libsystemd: readiness, reload, status and watchdog, and sockets that were passed. Every call
 * does nothing (and returns 0) where there is no systemd. Thread: loop. */
#ifndef DAEMON_SYSTEMD_H
#define DAEMON_SYSTEMD_H

#include <stddef.h>
#include <stdint.h>

/* READY=1 with a status line. */
void systemd_ready(const char *status);
/* RELOADING=1 with MONOTONIC_USEC; systemd_ready ends it. */
void systemd_reloading(void);
void systemd_stopping(void);

/* How often systemd wants to hear from us, half its limit; 0: no watchdog. */
uint64_t systemd_watchdog_ms(void);
void systemd_pet_watchdog(void);

/* Stream sockets passed to us, listening: their number, and the first descriptor (they follow one another). Others
 * than stream sockets are not counted. To be called once; the variables are removed from the environment. */
size_t systemd_sockets(int *ret_first);

#endif
