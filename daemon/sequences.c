/* Kept states of sequences. Thread: loop. Owns the sequences and their states. */
#include "daemon/sequences.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"

/* One sequence; the table's until it ends and nobody is in it. */
struct sequence {
    struct sequence *newer, *older; /* by last use */
    char *owner;
    char model[MODEL_NAME_BYTES_MAX];
    char name[SEQUENCE_NAME_BYTES_MAX];
    struct sequence_states *states; /* NULL: it only begins */
    struct turns turns;
    uint64_t used_ms;
};

struct sequences {
    struct sequence *newest, *oldest;
    size_t count;
    size_t bytes;
};

struct sequence_states *sequence_states_create(size_t count)
{
    struct sequence_states *states = mem_allocate(1, sizeof *states + count * sizeof *states->values);
    if (states != NULL) {
        states->count = count;
    }
    return states;
}

void sequence_states_destroy(struct sequence_states *states)
{
    for (size_t i = 0; states != NULL && i < states->count; i++) {
        tensor_release(&states->values[i]);
    }
    if (states != NULL) {
        mem_free(states->signature);
    }
    mem_free(states);
}

enum status sequences_create(struct sequences **ret_sequences, struct error *error)
{
    struct sequences *sequences = mem_allocate(1, sizeof *sequences);
    if (sequences == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for sequences");
    }
    *ret_sequences = sequences;
    return STATUS_OK;
}

/* ---- the list, newest first ---- */

static void unlink_sequence(struct sequences *sequences, struct sequence *sequence)
{
    *(sequence->newer == NULL ? &sequences->newest : &sequence->newer->older) = sequence->older;
    *(sequence->older == NULL ? &sequences->oldest : &sequence->older->newer) = sequence->newer;
}

static void link_newest(struct sequences *sequences, struct sequence *sequence)
{
    sequence->newer = NULL;
    sequence->older = sequences->newest;
    *(sequences->newest == NULL ? &sequences->oldest : &sequences->newest->newer) = sequence;
    sequences->newest = sequence;
}

static void set_states(struct sequences *sequences, struct sequence *sequence, struct sequence_states *states)
{
    sequences->bytes -= sequence->states == NULL ? 0 : sequence->states->bytes;
    sequence_states_destroy(sequence->states);
    sequence->states = states;
    sequences->bytes += states == NULL ? 0 : states->bytes;
}

static void free_sequence(struct sequences *sequences, struct sequence *sequence)
{
    CHECK(sequence->turns.first == NULL);
    set_states(sequences, sequence, NULL);
    unlink_sequence(sequences, sequence);
    sequences->count--;
    mem_free(sequence->owner);
    mem_free(sequence);
}

void sequences_destroy(struct sequences *sequences)
{
    while (sequences != NULL && sequences->newest != NULL) {
        free_sequence(sequences, sequences->newest);
    }
    mem_free(sequences);
}

/* Ends the one unused longest that nobody is in. False: there is none. */
static bool drop_oldest(struct sequences *sequences)
{
    struct sequence *sequence = sequences->oldest;
    while (sequence != NULL && sequence->turns.first != NULL) {
        sequence = sequence->newer;
    }
    if (sequence != NULL) {
        free_sequence(sequences, sequence);
    }
    return sequence != NULL;
}

static void drop_idle(struct sequences *sequences, uint64_t now_ms)
{
    struct sequence *sequence = sequences->oldest;
    while (sequence != NULL && now_ms - sequence->used_ms >= (uint64_t)SEQUENCE_IDLE_SECONDS * 1000) {
        struct sequence *newer = sequence->newer;
        if (sequence->turns.first == NULL) {
            free_sequence(sequences, sequence);
        }
        sequence = newer;
    }
}

static struct sequence *find(const struct sequences *sequences, const struct sequence_key *key)
{
    struct sequence *sequence = sequences->newest;
    while (sequence != NULL && (strcmp(sequence->name, key->name) != 0 || strcmp(sequence->model, key->model) != 0 ||
                                strcmp(sequence->owner, key->owner) != 0)) {
        sequence = sequence->older;
    }
    return sequence;
}

static struct sequence *create_sequence(struct sequences *sequences, const struct sequence_key *key)
{
    struct sequence *sequence = mem_allocate(1, sizeof *sequence);
    char *owner = mem_copy_string(key->owner);
    if (sequence == NULL || owner == NULL) {
        mem_free(sequence);
        mem_free(owner);
        return NULL;
    }
    sequence->owner = owner;
    snprintf(sequence->model, sizeof sequence->model, "%s", key->model);
    snprintf(sequence->name, sizeof sequence->name, "%s", key->name);
    link_newest(sequences, sequence);
    sequences->count++;
    return sequence;
}

/* ---- turns ---- */

static enum status refuse_unstarted(const char *name, const char *model, struct error *error)
{
    error_set(error, STATUS_INVALID,
              "inference request for sequence %s to model '%s' must specify the START flag on the first request of the "
              "sequence",
              name, model);
    return error_code(error, "sequence_not_found");
}

enum status sequences_enter(struct sequences *sequences, const struct sequence_key *key, uint64_t now_ms,
                            struct sequence_turn *turn, struct error *error)
{
    drop_idle(sequences, now_ms);
    struct sequence *sequence = find(sequences, key);
    if (sequence == NULL && !key->is_start) {
        return refuse_unstarted(key->name, key->model, error);
    }
    if (sequence == NULL && sequences->count >= SEQUENCES_MAX && !drop_oldest(sequences)) {
        return error_set(error, STATUS_LIMIT, "%zu sequences are at work, the maximum", sequences->count);
    }
    if (sequence == NULL) {
        sequence = create_sequence(sequences, key);
    }
    if (sequence == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a sequence");
    }
    if (sequence->turns.count == SEQUENCE_WAITERS_MAX) {
        return error_set(error, STATUS_LIMIT, "sequence %s: %zu requests wait already", key->name,
                         sequence->turns.count);
    }
    turns_add(&sequence->turns, &turn->turn);
    turn->sequence = sequence;
    turn->is_start = key->is_start;
    sequence->used_ms = now_ms;
    unlink_sequence(sequences, sequence);
    link_newest(sequences, sequence);
    return STATUS_OK;
}

enum status sequence_turn_states(const struct sequence_turn *turn, const struct sequence_states **ret_states,
                                 struct error *error)
{
    const struct sequence *sequence = turn->sequence;
    CHECK(turn->turn.is_inside && sequence->turns.first == &turn->turn);
    if (!turn->is_start && sequence->states == NULL) {
        return refuse_unstarted(sequence->name, sequence->model, error);
    }
    *ret_states = turn->is_start ? NULL : sequence->states;
    return STATUS_OK;
}

void sequences_leave(struct sequences *sequences, struct sequence_turn *turn, struct sequence_states *states,
                     bool is_end)
{
    struct sequence *sequence = turn->sequence;
    if (sequence == NULL) {
        return;
    }
    CHECK(turn->turn.is_inside && sequence->turns.first == &turn->turn);
    if (is_end) {
        sequence_states_destroy(states);
        set_states(sequences, sequence, NULL);
    } else if (states != NULL) {
        set_states(sequences, sequence, states);
    }
    turns_remove(&sequence->turns, &turn->turn);
    turn->sequence = NULL;
    if (!turns_let_in(&sequence->turns) && sequence->states == NULL) {
        free_sequence(sequences, sequence);
    }
    while (sequences->bytes > SEQUENCES_BYTES_MAX && drop_oldest(sequences)) {
    }
}

size_t sequences_count(const struct sequences *sequences)
{
    return sequences->count;
}

size_t sequences_bytes(const struct sequences *sequences)
{
    return sequences->bytes;
}
