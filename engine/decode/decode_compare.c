/* Comparing plans. Thread: any. Owns both rows' states and logits while it compares. */
#include "engine/decode/decode_compare.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

enum { STEPS = 12, SYMBOL_STRIDE = 7919, DEPTH_MAX = 60 };

static float largest(const float *values, size_t count)
{
    float maximum = values[0];
    for (size_t i = 1; i < count; i++) {
        maximum = values[i] > maximum ? values[i] : maximum;
    }
    return maximum;
}

/* Below the largest logit, which is what counts; far below, nothing does. */
static double depth(float logit, float maximum)
{
    double apart = (double)logit - (double)maximum;
    return apart < -DEPTH_MAX ? -DEPTH_MAX : apart;
}

static double compare(const float *a, const float *b, size_t count)
{
    double difference = 0;
    double scale = 1;
    float maximum_a = largest(a, count);
    float maximum_b = largest(b, count);
    for (size_t i = 0; i < count; i++) {
        double size = fabs(depth(b[i], maximum_b));
        double apart = fabs(depth(a[i], maximum_a) - depth(b[i], maximum_b));
        difference = apart > difference || isnan(apart) ? apart : difference;
        scale = size > scale ? size : scale;
    }
    return difference / scale;
}

static enum status step_both(const struct decode_plan *const plans[2], float *const slots[2], double *ret_difference,
                             struct error *error)
{
    double difference = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        uint32_t symbol = (uint32_t)(step * SYMBOL_STRIDE % plans[0]->vocabulary_size);
        for (size_t i = 0; i < 2; i++) {
            TRY(decode_plan_step_alone(plans[i], slots[i], step % 2, symbol, slots[i] + plans[i]->slot_floats, error));
        }
        double now =
            compare(slots[0] + plans[0]->slot_floats, slots[1] + plans[1]->slot_floats, plans[0]->vocabulary_size);
        difference = now > difference || isnan(now) ? now : difference;
        if (isnan(now)) {
            break;
        }
    }
    *ret_difference = difference;
    return STATUS_OK;
}

enum status decode_compare(const struct decode_plan *a, const struct decode_plan *b, double *ret_difference,
                           struct error *error)
{
    const struct decode_plan *const plans[] = {a, b};
    float *slots[2];
    CHECK(a->vocabulary_size == b->vocabulary_size);
    for (size_t i = 0; i < 2; i++) {
        slots[i] = mem_allocate_aligned(plans[i]->slot_floats + plans[i]->logits_stride, sizeof *slots[i]);
        if (slots[i] != NULL) {
            decode_plan_reset_slot(plans[i], slots[i]);
        }
    }
    enum status status = slots[0] != NULL && slots[1] != NULL
                             ? step_both(plans, slots, ret_difference, error)
                             : error_set(error, STATUS_NO_MEMORY, "no memory to compare two plans");
    mem_free(slots[0]);
    mem_free(slots[1]);
    return status;
}
