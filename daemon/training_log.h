/* What a training on the command line leaves for looking at it later, in a directory: TensorBoard's events and
 * history.csv, to which a resume adds behind the step it goes on from. Thread: the training's. */
#ifndef DAEMON_TRAINING_LOG_H
#define DAEMON_TRAINING_LOG_H

#include "engine/engine.h"

struct training_log;

/* Makes the directory where it is missing. IO names the file. Owned. */
enum status training_log_create(const char *directory, struct training_log **ret_log, struct error *error) MUST_CHECK;
void training_log_destroy(struct training_log *log);

/* Of a resume, before anything is added: what is noted of steps after `step` is of a run that was killed behind its
 * last checkpoint, and is made once more: cut off history.csv, and told to TensorBoard. IO names the file. */
enum status training_log_resume(struct training_log *log, uint64_t step, struct error *error) MUST_CHECK;

/* Takes note of an event: of progress once a second and after each evaluation, and of samples. IO names the file. */
enum status training_log_add(struct training_log *log, const struct training_event *event,
                             struct error *error) MUST_CHECK;

#endif
