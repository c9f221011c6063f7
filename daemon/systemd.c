/* Talking to systemd through libsystemd. Thread: loop. Owns nothing. Debian 12's systemd has no Type=notify-reload, so
 * a reload is said in the older way: RELOADING=1 with its time, then READY=1. */
#include "daemon/systemd.h"

#include <systemd/sd-daemon.h>

#include "engine/base/clock.h"

void systemd_ready(const char *status)
{
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void systemd_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_now_ns() / 1000));
}

void systemd_stopping(void)
{
    sd_notify(0, "STOPPING=1\nSTATUS=finishing what runs");
}

uint64_t systemd_watchdog_ms(void)
{
    uint64_t limit_us = 0;
    if (sd_watchdog_enabled(0, &limit_us) <= 0) {
        return 0;
    }
    return limit_us / 2000 > 0 ? limit_us / 2000 : 1;
}

void systemd_pet_watchdog(void)
{
    sd_notify(0, "WATCHDOG=1");
}

size_t systemd_sockets(int *ret_first)
{
    int count = sd_listen_fds(1);
    *ret_first = SD_LISTEN_FDS_START;
    for (int i = 0; i < count; i++) {
        if (sd_is_socket(SD_LISTEN_FDS_START + i, 0, SOCK_STREAM, 1) <= 0) {
            return (size_t)i;
        }
    }
    return count > 0 ? (size_t)count : 0;
}
