/* Counters and histograms in Prometheus' text form. Thread: loop. Bounded: a combination of model, outcome and key
 * beyond the maximum is counted under the model "other" and no key. */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "daemon/server.h"

enum { METRICS_COUNTERS_MAX = 4096 };

enum metric_histogram {
    METRIC_TIME_TO_FIRST_TOKEN_SECONDS,
    METRIC_INTER_TOKEN_SECONDS,
    METRIC_REQUEST_SECONDS,
    METRIC_QUEUE_SECONDS,
    METRIC_LOOP_TURN_SECONDS,
    METRIC_HISTOGRAM_COUNT,
};

struct metrics;

/* Owned. */
enum status metrics_create(struct metrics **ret_metrics, struct error *error) MUST_CHECK;
void metrics_destroy(struct metrics *metrics);

/* One more text request of `model` ("" where none was found) that ended as `outcome`, asked with `key` ("": none). */
void metrics_count_request(struct metrics *metrics, const char *model, const char *outcome, const char *key);

/* One more build of `model` that was refused since a variable existed already. */
void metrics_count_duplicate(struct metrics *metrics, const char *model);

/* One more observation of a histogram. */
void metrics_observe(struct metrics *metrics, enum metric_histogram histogram, double seconds);

/* Everything as text, with what the server's parts count; from mem_allocate, NULL without memory. */
char *metrics_write(const struct server *server, size_t *ret_length);

#endif
