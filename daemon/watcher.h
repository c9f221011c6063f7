/* Watches the directories of models and asks for a scan soon after something changed in one; besides, every
 * rescan_seconds. Thread: loop. */
#ifndef DAEMON_WATCHER_H
#define DAEMON_WATCHER_H

#include "daemon/registry.h"

struct watcher;

/* Begins to watch; takes registry_on_change for itself. Where the system has no watches left, the rescans remain (and a
 * line in the log). */
enum status watcher_create(uv_loop_t *loop, struct registry *registry, const struct settings *settings,
                           struct watcher **ret_watcher, struct error *error) MUST_CHECK;

/* Stops; the handles close with the loop's next turns. Before registry_destroy. NULL is allowed. */
void watcher_destroy(struct watcher *watcher);

#endif
