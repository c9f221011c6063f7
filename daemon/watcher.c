/* Directory watches of libuv, one for each directory that matters, and the timers that turn their bursts into scans.
 * Thread: loop. Owns its handles; each is freed in its close callback. */
#include "daemon/watcher.h"

#include "daemon/log.h"
#include "engine/base/mem.h"

enum { WATCHES_MAX = 8192, QUIET_MS = 50 };

struct watch {
    uv_fs_event_t event;
    struct watch *next;
    struct watcher *watcher;
    bool is_wanted;
    bool is_stale; /* its directory was moved or removed: another may be there now */
    char path[REGISTRY_PATH_BYTES_MAX];
};

struct watcher {
    uv_loop_t *loop;
    struct registry *registry;
    const struct settings *settings;
    uv_timer_t *quiet; /* a scan follows when no more events came for so long */
    uv_timer_t *rescan;
    struct watch *watches;
    size_t watch_count;
    bool has_failed; /* said once */
};

static void on_quiet(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    registry_scan(watcher->registry);
}

static void on_rescan(uv_timer_t *timer)
{
    struct watcher *watcher = timer->data;
    registry_scan(watcher->registry);
    uv_timer_start(timer, on_rescan, watcher->settings->rescan_seconds * 1000, 0);
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct watch *watch = event->data;
    const char *slash = strrchr(watch->path, '/');
    bool is_itself = name == NULL || strcmp(name, slash == NULL ? watch->path : slash + 1) == 0;
    watch->is_stale = watch->is_stale || status != 0 || ((events & UV_RENAME) != 0 && is_itself);
    if (name != NULL && name[0] == '.') {
        return; /* our own files while they are written beside, and a job's checkpoint */
    }
    uv_timer_start(watch->watcher->quiet, on_quiet, QUIET_MS, 0);
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

static struct watch *find_watch(const struct watcher *watcher, const char *path)
{
    for (struct watch *watch = watcher->watches; watch != NULL; watch = watch->next) {
        if (!watch->is_stale && strcmp(watch->path, path) == 0) {
            return watch;
        }
    }
    return NULL;
}

static void add_watch(struct watcher *watcher, const char *path)
{
    struct watch *watch = watcher->watch_count < WATCHES_MAX ? mem_allocate(1, sizeof *watch) : NULL;
    if (watch == NULL) {
        return;
    }
    snprintf(watch->path, sizeof watch->path, "%s", path);
    watch->watcher = watcher;
    watch->is_wanted = true;
    uv_fs_event_init(watcher->loop, &watch->event);
    watch->event.data = watch;
    int failed = uv_fs_event_start(&watch->event, on_event, path, 0);
    if (failed != 0) {
        if (!watcher->has_failed && failed != UV_ENOENT) {
            log_event(LOG_LEVEL_WARNING, "not_watched", uv_strerror(failed), "path=%s", path);
            watcher->has_failed = true;
        }
        uv_close((uv_handle_t *)&watch->event, on_closed);
        return;
    }
    watch->next = watcher->watches;
    watcher->watches = watch;
    watcher->watch_count++;
}

static void want_path(void *context, const char *path)
{
    struct watcher *watcher = context;
    struct watch *watch = find_watch(watcher, path);
    if (watch != NULL) {
        watch->is_wanted = true;
    } else {
        add_watch(watcher, path);
    }
}

/* Watches what matters now and nothing else. */
static void on_change(void *context)
{
    struct watcher *watcher = context;
    for (struct watch *watch = watcher->watches; watch != NULL; watch = watch->next) {
        watch->is_wanted = false;
    }
    registry_visit_paths(watcher->registry, want_path, watcher);
    struct watch **link = &watcher->watches;
    while (*link != NULL) {
        struct watch *watch = *link;
        if (watch->is_wanted) {
            link = &watch->next;
            continue;
        }
        *link = watch->next;
        watcher->watch_count--;
        uv_close((uv_handle_t *)&watch->event, on_closed);
    }
}

enum status watcher_create(uv_loop_t *loop, struct registry *registry, const struct settings *settings,
                           struct watcher **ret_watcher, struct error *error)
{
    struct watcher *watcher = mem_allocate(1, sizeof *watcher);
    uv_timer_t *quiet = mem_allocate(1, sizeof *quiet);
    uv_timer_t *rescan = mem_allocate(1, sizeof *rescan);
    if (watcher == NULL || quiet == NULL || rescan == NULL) {
        mem_free(watcher);
        mem_free(quiet);
        mem_free(rescan);
        return error_set(error, STATUS_NO_MEMORY, "no memory to watch the models directory");
    }
    *watcher =
        (struct watcher){.loop = loop, .registry = registry, .settings = settings, .quiet = quiet, .rescan = rescan};
    uv_timer_init(loop, quiet);
    uv_timer_init(loop, rescan);
    quiet->data = watcher;
    rescan->data = watcher;
    uv_timer_start(rescan, on_rescan, settings->rescan_seconds * 1000, 0);
    registry_on_change(registry, on_change, watcher);
    on_change(watcher);
    *ret_watcher = watcher;
    return STATUS_OK;
}

void watcher_destroy(struct watcher *watcher)
{
    if (watcher == NULL) {
        return;
    }
    registry_on_change(watcher->registry, NULL, NULL);
    while (watcher->watches != NULL) {
        struct watch *watch = watcher->watches;
        watcher->watches = watch->next;
        uv_close((uv_handle_t *)&watch->event, on_closed);
    }
    uv_close((uv_handle_t *)watcher->quiet, on_timer_closed);
    uv_close((uv_handle_t *)watcher->rescan, on_timer_closed);
    mem_free(watcher);
}
