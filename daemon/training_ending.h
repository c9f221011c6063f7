/* The record that a training ends with where it is not done: the same over HTTP and as a line of lstmd train. Thread:
 * any. */
#ifndef DAEMON_TRAINING_ENDING_H
#define DAEMON_TRAINING_ENDING_H

#include <jansson.h>

#include "engine/base/status.h"

/* {"event":"failed","error":{"code","message",…}} with the error as HTTP has it; of a training that was asked to stop
 * (CANCELLED) {"event":"stopped","message",…} with the fields of `checkpoint`, the record of what it can be resumed
 * from (NULL: none is known). New reference, NULL without memory. */
json_t *training_ending_record(const struct error *error, const json_t *checkpoint);

#endif
