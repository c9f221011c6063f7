/* Training jobs over HTTP: at most one a model, each on a thread of its own; their records are kept for GET and for
 * streams, their versions published. The last job of each model stays known until the daemon ends.
 * Thread: loop. */
#ifndef DAEMON_TRAININGS_H
#define DAEMON_TRAININGS_H

#include "daemon/server.h"

enum { TRAINING_RECORDS_MAX = 2048 /* of one job; above, every other progress record is dropped */ };

struct trainings;
struct training_run; /* one job, reference-counted */

/* Owned. */
enum status trainings_create(struct server *server, struct trainings **ret_trainings, struct error *error) MUST_CHECK;

/* Asks every job to stop after its current step, keeping its checkpoint; no job can begin any more. NULL is allowed.
 * */
void trainings_stop_all(struct trainings *trainings);

/* Every job must have ended, and no stream may be open. NULL is allowed. */
void trainings_destroy(struct trainings *trainings);

/* Jobs whose thread has not ended; 0 for NULL. */
size_t trainings_running(const struct trainings *trainings);

/* Calls `visit` with the last train loss (nats per symbol) of each model that has one, for metrics. */
void trainings_visit(const struct trainings *trainings,
                     void (*visit)(void *context, const char *model, double train_loss), void *context);

/* Starts what the held `request` asks for on model `name`, and answers it: 202, or why not, once the corpus is read
 * and the graph is ready. */
void trainings_start(struct trainings *trainings, const char *name, struct request *request);

/* Asks the model's job to stop after its current step; `on_over` is called when it has ended, or at once when there is
 * none. Without memory the job is asked all the same and `on_over` called at once. */
void trainings_stop(struct trainings *trainings, const char *name, void (*on_over)(void *context), void *context);

/* Forgets the jobs of a model that is deleted: one of the same name is another. One that runs stays. */
void trainings_forget(struct trainings *trainings, const char *name);

/* The model's last job; NOT_FOUND, code "no_training", which trainings_refuse says, too. A reference for the caller. */
enum status trainings_find(struct trainings *trainings, const char *name, struct training_run **ret_run,
                           struct error *error) MUST_CHECK;
enum status trainings_refuse(const char *name, struct error *error);
void training_run_unref(struct training_run *run);

/* {"id","model","state","step",…,"version","options"}: the fields of the last record that says where the training
 * stands (step, epoch, losses), "error" when it failed; with "history" when asked. New reference, NULL without
 * memory. */
json_t *training_run_describe(const struct training_run *run, bool has_history);

/* The first record after number `after`, with its number; NULL when there is none yet. Borrowed until the next record
 * comes. */
const json_t *training_run_record(const struct training_run *run, uint64_t after, uint64_t *ret_number);
bool training_run_is_over(const struct training_run *run);

/* Is told of new records, of the end, and (is_ping) every ping_seconds. Its owner's memory; unwatch before freeing. */
struct training_watch {
    struct training_watch *next;
    void (*on_change)(struct training_watch *watch, bool is_ping);
};
void training_run_watch(struct training_run *run, struct training_watch *watch);
void training_run_unwatch(struct training_run *run, struct training_watch *watch);

#endif
