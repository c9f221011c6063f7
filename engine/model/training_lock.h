/* The right to train into a model directory: one process at a time. The lock is a file beside .training/, since that is
 * replaced whole; it vanishes with the process. Thread: any, one at a time. */
#ifndef ENGINE_MODEL_TRAINING_LOCK_H
#define ENGINE_MODEL_TRAINING_LOCK_H

#include "engine/base/status.h"

struct training_lock;

/* Makes `directory` where it is missing and locks it. CONFLICT, code "training_locked", when another process holds it;
 * IO. Owned: give it back with training_lock_release. */
enum status training_lock_take(const char *directory, struct training_lock **ret_lock, struct error *error) MUST_CHECK;

/* Whether anybody trains there now, in whatever process. Makes nothing; who takes the lock at that moment tries again.
 * Thread: any. */
bool training_lock_is_held(const char *directory);

/* NULL is allowed. Directories that taking made are removed again if they are empty. */
void training_lock_release(struct training_lock *lock);

#endif
