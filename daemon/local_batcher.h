/* Generating without a server: a batcher whose rows are read where they are made, and whose end one waits for. Create,
 * begin, wait and destroy on one thread (main). */
#ifndef DAEMON_LOCAL_BATCHER_H
#define DAEMON_LOCAL_BATCHER_H

#include <pthread.h>

#include "engine/engine.h"

struct local_batcher;

/* One row. Starts as all zeroes but the first two; lives until local_batcher_destroy. */
struct local_row {
    /* Takes text as it becomes ready, whole UTF-8 characters, in order, on a compute thread; may be NULL. */
    void (*on_text)(void *context, const char *bytes, size_t length);
    void *context;
    struct generation *generation; /* from local_batcher_begin on; for its results after the end */
    pthread_mutex_t reading;       /* of whoever reads its text: its steps are reported by several threads */
    bool has_ended;                /* under it */
};

/* Starts compute threads: `threads`, or with 0 as many as we may use. Errors as batcher_create's. Owned. */
enum status local_batcher_create(size_t threads, struct local_batcher **ret_local, struct error *error) MUST_CHECK;

/* Ends what still runs and releases every row's generation. NULL is allowed. */
void local_batcher_destroy(struct local_batcher *local);

enum { LOCAL_BATCHER_ROWS_MAX = BATCHER_ROWS_MAX };

/* Begins one generation from `snapshot`, which must outlive the batcher. `options->owner` is taken for itself. LIMIT
 * when LOCAL_BATCHER_ROWS_MAX rows run; generation_create's errors. */
enum status local_batcher_begin(struct local_batcher *local, struct snapshot *snapshot,
                                const struct generation_options *options, struct local_row *row,
                                struct error *error) MUST_CHECK;

/* Waits until every row that was begun has ended. UNPROCESSABLE or what else the first row that failed says. */
enum status local_batcher_wait(struct local_batcher *local, struct error *error) MUST_CHECK;

#endif
