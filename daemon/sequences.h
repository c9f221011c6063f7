/* Sequences of the Open Inference Protocol: the state that a signature's runs carry over from one infer request to the
 * next, under the name that the client gave the sequence. For text there are sessions (sessions.h); these are tensors
 * of any signature, kept in memory only.
 *
 * A request enters a sequence and leaves it with the next state. One is inside at a time, others wait and come in the
 * order in which they arrived. At SEQUENCES_MAX sequences or SEQUENCES_BYTES_MAX bytes those unused longest go, and
 * each goes when nobody asked for it for SEQUENCE_IDLE_SECONDS. Thread: loop, but for the states of who is inside. */
#ifndef DAEMON_SEQUENCES_H
#define DAEMON_SEQUENCES_H

#include <stddef.h>

#include "daemon/names.h"
#include "daemon/turns.h"
#include "engine/engine.h"

enum {
    SEQUENCES_MAX = 4096,
    SEQUENCES_BYTES_MAX = 256 << 20,
    SEQUENCE_IDLE_SECONDS = 3600,
    SEQUENCE_WAITERS_MAX = 64, /* requests of one sequence; above: LIMIT */
    SEQUENCE_NAME_BYTES_MAX = 65,
};

struct sequences;
struct sequence;

/* What a run left for the next one: a tensor for each input that is carried, in the signature's order. */
struct sequence_states {
    uint64_t version;     /* of the model: the sequence stays with it */
    uint64_t fingerprint; /* of its files: another one of that number is not it */
    char *signature;      /* its name; owned */
    size_t bytes;
    size_t count;
    struct tensor values[];
};

/* Room for `count` tensors, which stay empty until they are filled. NULL without memory. */
struct sequence_states *sequence_states_create(size_t count) MUST_CHECK;
void sequence_states_destroy(struct sequence_states *states); /* takes NULL */

/* Owned. */
enum status sequences_create(struct sequences **ret_sequences, struct error *error) MUST_CHECK;
/* No request may be inside. NULL is allowed. */
void sequences_destroy(struct sequences *sequences);

/* A request's place in a sequence; zeroed by its owner, who sets `turn.granted`. */
struct sequence_turn {
    struct turn turn;
    struct sequence *sequence; /* NULL: in none */
    bool is_start;
};

/* Whose, of which model, which, and whether it begins anew. */
struct sequence_key {
    const char *owner; /* a key's name; "": without keys */
    const char *model;
    const char *name;
    bool is_start;
};

/* Enters, or begins to wait: `is_inside` tells. INVALID where the sequence is not there and this does not start it;
 * LIMIT when too many wait; NO_MEMORY. `now_ms` is clock_now_ms's. */
enum status sequences_enter(struct sequences *sequences, const struct sequence_key *key, uint64_t now_ms,
                            struct sequence_turn *turn, struct error *error) MUST_CHECK;

/* What is inside goes on from: NULL where it begins anew. INVALID where what it waited for ended, or never began.
 * Borrowed until the turn leaves; nobody changes it meanwhile. */
enum status sequence_turn_states(const struct sequence_turn *turn, const struct sequence_states **ret_states,
                                 struct error *error) MUST_CHECK;

/* Leaves with the next states, which it takes; NULL leaves them as they were. `is_end`: the sequence is over. Lets the
 * next one in. A turn that is in no sequence is allowed. */
void sequences_leave(struct sequences *sequences, struct sequence_turn *turn, struct sequence_states *states,
                     bool is_end);

/* How many there are, and what their states take. */
size_t sequences_count(const struct sequences *sequences);
size_t sequences_bytes(const struct sequences *sequences);

#endif
