/* Learning-rate schedules. Thread: any. Owns nothing. */
#include "engine/train/schedule.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const char *const NAMES[] = {"constant", "step", "exponential", "cosine", "plateau"};
static_assert(sizeof NAMES / sizeof *NAMES == SCHEDULE_KIND_COUNT, "one name each");

const char *schedule_name(enum schedule_kind kind)
{
    return NAMES[kind];
}

bool schedule_kind_from_name(const char *name, enum schedule_kind *ret_kind)
{
    for (int kind = 0; kind < SCHEDULE_KIND_COUNT; kind++) {
        if (strcmp(NAMES[kind], name) == 0) {
            *ret_kind = (enum schedule_kind)kind;
            return true;
        }
    }
    return false;
}

/* Of the learning rate, before warm-up. */
static double fraction_at(const struct schedule *schedule, const struct schedule_position *position)
{
    double step = (double)position->step;
    double decay_steps = (double)schedule->decay_steps;
    switch (schedule->kind) {
    case SCHEDULE_STEP: {
        uint64_t after = position->epoch > schedule->after_epochs ? position->epoch - schedule->after_epochs : 0;
        uint64_t decays = after / schedule->every_epochs;
        return pow(schedule->factor, (double)decays);
    }
    case SCHEDULE_EXPONENTIAL: return pow(schedule->factor, step / decay_steps);
    case SCHEDULE_COSINE: {
        double done = step < decay_steps ? step / decay_steps : 1;
        return schedule->final_fraction + (1 - schedule->final_fraction) * 0.5 * (1 + cos(acos(-1) * done));
    }
    case SCHEDULE_PLATEAU: return pow(schedule->factor, (double)position->reductions);
    case SCHEDULE_CONSTANT:
    case SCHEDULE_KIND_COUNT: break;
    }
    return 1;
}

double schedule_rate(const struct schedule *schedule, double learning_rate, const struct schedule_position *position)
{
    double rate = learning_rate * fraction_at(schedule, position);
    if (schedule->kind == SCHEDULE_PLATEAU && rate < schedule->least_rate) {
        rate = schedule->least_rate;
    }
    if (position->step + 1 < schedule->warmup_steps) {
        rate *= (double)(position->step + 1) / (double)schedule->warmup_steps;
    }
    return rate;
}

void plateau_note(struct plateau *plateau, const struct schedule *schedule, double loss)
{
    if (isnan(plateau->best) || loss < plateau->best * (1 - schedule->threshold)) {
        plateau->best = loss;
        plateau->stale_evaluations = 0;
    } else if (++plateau->stale_evaluations > schedule->patience) {
        plateau->stale_evaluations = 0;
        plateau->reductions++;
    }
}
