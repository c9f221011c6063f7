/* Where a training stands, as a record and as JSON. Thread: the training's; of JSON, any. */
#include <math.h>

#include "engine/train/training_private.h"

static const double SPEED_WINDOW_SECONDS = 4;

static const char *const KIND_NAMES[] = {"progress", "sample", "checkpoint", "done"};
static_assert(sizeof KIND_NAMES / sizeof KIND_NAMES[0] == TRAINING_EVENT_KIND_COUNT, "one name each");

/* ---- the record ---- */

void training_speed_add(struct speed *speed, double symbols, double seconds)
{
    speed->symbols += symbols;
    speed->seconds += seconds;
    if (speed->seconds >= SPEED_WINDOW_SECONDS) {
        speed->symbols_before = speed->symbols;
        speed->seconds_before = speed->seconds;
        speed->symbols = 0;
        speed->seconds = 0;
    }
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* How much of the way to the nearest limit is done. */
static double fraction_done(const struct training *training)
{
    const struct training_options *options = &training->options;
    const struct training_position *at = &training->record.position;
    double done = 0;
    if (options->epochs > 0) {
        double windows = (double)options->epochs * (double)training->windows;
        done = larger(done, ((double)at->epoch * (double)training->windows + (double)at->window) / windows);
    }
    if (options->max_steps > 0) {
        done = larger(done, (double)at->step / (double)options->max_steps);
    }
    if (options->max_seconds > 0) {
        done = larger(done, at->seconds / options->max_seconds);
    }
    return done < 1 ? done : 1;
}

double training_rate(const struct training *training)
{
    const struct training_position *at = &training->record.position;
    struct schedule_position position = {
        .epoch = at->epoch + 1, .step = at->step, .reductions = at->plateau.reductions};
    return schedule_rate(&training->options.schedule, training->options.learning_rate, &position);
}

void training_describe(const struct training *training, struct training_event *ret_event)
{
    const struct training_position *at = &training->record.position;
    const struct speed *speed = &training->speed;
    double loss = isnan(at->validation_loss) ? at->smoothed_loss : at->validation_loss;
    double done = fraction_done(training);
    double seconds = speed->seconds + speed->seconds_before;
    *ret_event = (struct training_event){
        .kind = TRAINING_PROGRESS,
        .step = at->step,
        .epoch = (double)at->epoch + (double)at->window / (double)training->windows,
        .train_loss = at->smoothed_loss,
        .validation_loss = at->validation_loss,
        .best_loss = at->best_loss,
        .best_step = at->best_step,
        .bits_per_character = loss / log(2) * training->symbols_per_character,
        .perplexity = exp(loss),
        .symbols_per_character = training->symbols_per_character,
        .test_loss = training->test_loss,
        .learning_rate = training_rate(training),
        .gradient_norm = training->gradient_norm,
        .symbols_per_second = seconds > 0 ? (speed->symbols + speed->symbols_before) / seconds : (double)NAN,
        .seconds_left = done > 0 ? at->seconds / done * (1 - done) : (double)NAN,
        .seconds = at->seconds,
        .fraction_done = done,
        .is_evaluation = training->is_evaluated,
        .is_best = training->is_best,
        .text = training->sample,
    };
}

/* ---- JSON ---- */

json_t *training_event_to_json(const struct training_event *event)
{
    json_t *json = json_pack("{s:s, s:I}", "event", KIND_NAMES[event->kind], "step", (json_int_t)event->step);
    const struct {
        const char *name;
        double number;
    } fields[] = {
        {"epoch", event->epoch},
        {"train_loss", event->train_loss},
        {"validation_loss", event->validation_loss},
        {"best_validation_loss", event->best_loss},
        {"bits_per_character", event->bits_per_character},
        {"perplexity", event->perplexity},
        {"learning_rate", event->learning_rate},
        {"gradient_norm", event->gradient_norm},
        {"symbols_per_second", event->symbols_per_second},
        {"seconds_left", event->seconds_left},
        {"seconds", event->seconds},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        failed |= json_object_set_new(json, fields[i].name, checkpoint_number(fields[i].number));
    }
    if (event->kind == TRAINING_DONE) {
        failed |= json_object_set_new(json, "test_loss", checkpoint_number(event->test_loss));
    }
    if (event->text) {
        failed |= json_object_set_new(json, "text", json_string(event->text));
    }
    if (failed != 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}
