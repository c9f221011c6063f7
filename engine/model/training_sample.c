/* Sampling from values that are being trained: one row of a plan packed for it. Thread: any. */
#include "engine/model/training_sample.h"

#include <stdatomic.h>

#include "engine/base/mem.h"
#include "engine/decode/decode_batch.h"
#include "engine/model/model_private.h"

/* Text as it grows, with a NUL behind it. */
struct text {
    char *bytes;
    size_t length;
};

static enum status take(struct generation *row, struct text *text, struct error *error)
{
    size_t more = generation_progress(row).readable_bytes;
    size_t room = more + 4; /* a character that is longer than what is left would stay for ever */
    char *bytes = mem_reallocate(text->bytes, text->length + room, 1);
    if (bytes == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a sample of %zu bytes", text->length + more);
    }
    text->bytes = bytes;
    text->length += more == 0 ? 0 : generation_read(row, bytes + text->length, room - 1);
    bytes[text->length] = '\0';
    return STATUS_OK;
}

static enum status generate(const struct training_sample *sample, const struct decode_plan *plan,
                            struct generation *row, struct text *text, struct error *error)
{
    struct decode_batch *batch = NULL;
    TRY(decode_batch_create(&batch, error));
    enum status status = STATUS_OK;
    bool goes_on = true;
    while (status == STATUS_OK && goes_on) {
        goes_on = decode_batch_run(batch, plan, &row, 1) && !atomic_load(sample->is_cancelled);
        status = take(row, text, error);
    }
    decode_batch_destroy(batch);
    TRY(status);
    if (generation_progress(row).finish == FINISH_FAILED) {
        generation_failure(row, error);
        return STATUS_UNPROCESSABLE;
    }
    return STATUS_OK;
}

enum status training_sample_make(const struct training_sample *sample, char **ret_text, struct error *error)
{
    struct version_content content = {
        .graph = sample->graph, .values = sample->values, .vocabulary = sample->vocabulary};
    struct generation_options options = {.prompt = &sample->first_symbol,
                                         .prompt_count = 1,
                                         .tokens_max = sample->symbols,
                                         .temperature = 1,
                                         .top_p = 1,
                                         .seed = sample->seed};
    struct decode_plan *plan = NULL;
    char *slow_path = NULL;
    struct generation *row = NULL;
    struct text text = {NULL, 0};
    TRY(version_content_plan(&content, RNN_PRECISION_FP32, &plan, &slow_path, error));
    mem_free(slow_path); /* a slow one writes, too */
    enum status status = generation_create(plan, sample->vocabulary, &options, NULL, NULL, &row, error);
    if (status == STATUS_OK) {
        status = generate(sample, plan, row, &text, error);
    }
    generation_unref(row);
    decode_plan_destroy(plan);
    if (status != STATUS_OK) {
        mem_free(text.bytes);
        return status;
    }
    *ret_text = text.bytes;
    return STATUS_OK;
}
