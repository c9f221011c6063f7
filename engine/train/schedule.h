/* How the learning rate goes over a training. Plain values. Thread: any.
 *
 *   constant      rate
 *   step          rate · factor^⌊max(0, epoch − after_epochs) / every_epochs⌋, epochs counted from 1
 *   exponential   rate · factor^(step / decay_steps)                             (TensorFlow's exponential_decay)
 *   cosine        rate · (final + (1 − final) · ½(1 + cos(π · min(step, decay_steps) / decay_steps)))
 *                                                                               (TensorFlow's cosine_decay)
 *   plateau       rate · factor^reductions, at least least_rate                  (PyTorch's ReduceLROnPlateau)
 *
 * each times min(1, (step + 1) / warmup_steps). Steps are those done before. */
#ifndef ENGINE_TRAIN_SCHEDULE_H
#define ENGINE_TRAIN_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

enum schedule_kind {
    SCHEDULE_CONSTANT,
    SCHEDULE_STEP,
    SCHEDULE_EXPONENTIAL,
    SCHEDULE_COSINE,
    SCHEDULE_PLATEAU,
    SCHEDULE_KIND_COUNT
};

struct schedule {
    enum schedule_kind kind;
    uint64_t warmup_steps;
    uint64_t after_epochs;
    uint64_t every_epochs; /* at least 1 */
    double factor;
    uint64_t decay_steps;  /* cosine: 0: to the training's end, set once that is known */
    double final_fraction; /* of the rate, after decay_steps */
    uint64_t patience;     /* evaluations without progress that are borne */
    double threshold;      /* progress: a loss below best · (1 − threshold) */
    double least_rate;
};

/* What a plateau schedule remembers of the evaluations so far. */
struct plateau {
    double best; /* NaN before the first */
    uint64_t stale_evaluations;
    uint64_t reductions;
};

/* Where a training stands. */
struct schedule_position {
    uint64_t epoch; /* from 1 */
    uint64_t step;  /* done */
    uint64_t reductions;
};

/* The learning rate there, of one that begins as `learning_rate`. */
double schedule_rate(const struct schedule *schedule, double learning_rate, const struct schedule_position *position);

/* Takes note of an evaluation's loss: once more than `patience` in a row brought no progress, the rate is reduced. */
void plateau_note(struct plateau *plateau, const struct schedule *schedule, double loss);

/* "constant", "step", …, and the kind of that name; false when there is none. */
const char *schedule_name(enum schedule_kind kind);
bool schedule_kind_from_name(const char *name, enum schedule_kind *ret_kind);

#endif
