/* The gate of a model: a new version serves only if it predicts the text of the setting "gate" at most by that margin
 * worse than the one before it. Read on the loop, checked on the loader thread. */
#ifndef DAEMON_REGISTRY_GATE_H
#define DAEMON_REGISTRY_GATE_H

#include <jansson.h>

#include "daemon/registry.h"

enum { GATE_TEXT_BYTES_MAX = 16384 };

/* What a load takes along. */
struct gate {
    char *text; /* owned; NULL: there is no gate */
    double margin_nats;
    struct snapshot *serving; /* one reference; NULL: nothing serves, and what did is to be found on disk */
};

/* Whether `setting` can be the setting "gate": {"text", "margin_nats"}, the latter 0 where it is missing. INVALID says
 * what is wrong. Thread: any. */
enum status gate_check_setting(const json_t *setting, struct error *error) MUST_CHECK;

/* Whether `serving` can read its text; NULL can. INVALID otherwise. Thread: loop. */
enum status gate_check_text(const json_t *setting, const struct snapshot *serving, struct error *error) MUST_CHECK;

/* From a setting that was checked, or NULL. NO_MEMORY. Released by gate_release. Thread: loop. */
enum status gate_init(struct gate *gate, const json_t *setting, struct snapshot *serving,
                      struct error *error) MUST_CHECK;
/* May free a snapshot. Thread: loader; loop where it was not given away. */
void gate_release(struct gate *gate);

/* Whether `candidate`, a version in the model directory `directory`, may serve. Its loss is compared with that of
 * `gate->serving` or, where there is none, of the newest version before it that passed; older ones that were never
 * compared are so first, one after the other. What was found is kept in the directory's gate.json, by the digests of
 * the versions' files, so that each is looked at once, and what was kept out stays out after a restart. UNPROCESSABLE,
 * code "gate", says both losses, in nats for each character of the text; CANCELLED soon after `is_cancelled` is set;
 * NO_MEMORY. Slow. Thread: loader. */
enum status gate_check(const struct gate *gate, const char *directory, const struct snapshot *candidate,
                       const _Atomic bool *is_cancelled, struct error *error) MUST_CHECK;

#endif
