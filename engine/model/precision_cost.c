/* Measuring precisions: the same rows of text through a plan of each. Thread: any; owns nothing. */
#include "engine/model/precision_cost.h"

#include <math.h>

#include "engine/base/mem.h"
#include "engine/decode/decode_score.h"
#include "engine/model/model_private.h"

struct text {
    uint32_t *symbols; /* [row_count, row_symbols] */
    size_t row_count;
    size_t row_symbols;
    double symbols_per_character;
};

static enum status read_text(const struct corpus *corpus, struct corpus_stretch stretch, struct text *ret_text,
                             struct error *error)
{
    uint64_t characters;
    size_t count = stretch.count;
    TRY(corpus_count_characters(corpus, stretch, &characters, error));
    struct text text = {.row_count = count / PRECISION_COST_ROW_SYMBOLS};
    text.row_count = text.row_count < 1                     ? 1
                     : text.row_count > PRECISION_COST_ROWS ? PRECISION_COST_ROWS
                                                            : text.row_count;
    text.row_symbols = count < PRECISION_COST_ROW_SYMBOLS ? count : PRECISION_COST_ROW_SYMBOLS;
    text.symbols = mem_allocate(text.row_count * text.row_symbols, sizeof *text.symbols);
    if (text.symbols == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory to measure precisions");
    }
    text.symbols_per_character = (double)count / (double)(characters > 0 ? characters : 1);
    enum status status = STATUS_OK;
    for (size_t row = 0; status == STATUS_OK && row < text.row_count; row++) {
        size_t at = stretch.begin + row * (count / text.row_count);
        status = corpus_copy_symbols(corpus, at, text.row_symbols, (int32_t *)(text.symbols + row * text.row_symbols),
                                     error);
    }
    if (status != STATUS_OK) {
        mem_free(text.symbols);
        return status;
    }
    *ret_text = text;
    return STATUS_OK;
}

static enum status measure(const struct version_content *content, const struct text *text, enum rnn_precision precision,
                           const _Atomic bool *is_cancelled, double *ret_bits, struct error *error)
{
    struct decode_plan *plan = NULL;
    char *slow_path = NULL;
    double nats;
    TRY(version_content_plan(content, precision, &plan, &slow_path, error));
    mem_free(slow_path);
    enum status status = decode_score(plan, content->vocabulary, text->symbols, text->row_count, text->row_symbols,
                                      is_cancelled, &nats, error);
    decode_plan_destroy(plan);
    TRY(status);
    *ret_bits = nats / log(2) * text->symbols_per_character;
    return STATUS_OK;
}

static enum status fill(const struct version_content *content, const struct text *text,
                        const _Atomic bool *is_cancelled, json_t *report, struct error *error)
{
    double wide = 0;
    for (enum rnn_precision precision = RNN_PRECISION_FP32; precision < RNN_PRECISION_COUNT; precision++) {
        double bits = 0;
        struct error reason;
        enum status status = measure(content, text, precision, is_cancelled, &bits, &reason);
        bool is_refused = status != STATUS_OK;
        if (status == STATUS_CANCELLED) {
            *error = reason;
            return status;
        }
        wide = precision == RNN_PRECISION_FP32 ? bits : wide;
        json_t *entry =
            is_refused ? json_pack("{s:s}", "refused", reason.message) : json_pack("{s:f}", "bits_per_character", bits);
        bool has_change = precision != RNN_PRECISION_FP32 && !is_refused && wide > 0;
        if (entry == NULL || (has_change && json_object_set_new(entry, "change", json_real(bits / wide - 1)) != 0) ||
            json_object_set_new(report, rnn_precision_name(precision), entry) != 0) {
            return error_set(error, STATUS_NO_MEMORY, "no memory to measure precisions");
        }
    }
    return STATUS_OK;
}

enum status precision_cost_measure(struct graph *graph, struct values *values, struct vocabulary *vocabulary,
                                   const struct corpus *corpus, struct corpus_stretch stretch,
                                   const _Atomic bool *is_cancelled, json_t **ret_report, struct error *error)
{
    struct version_content content = {.graph = graph, .values = values, .vocabulary = vocabulary};
    struct text text = {.symbols = NULL};
    if (stretch.count < 2) {
        *ret_report = NULL;
        return STATUS_OK;
    }
    TRY(read_text(corpus, stretch, &text, error));
    size_t scored = text.row_count * (text.row_symbols - 1);
    json_t *report = json_pack("{s:I}", "symbols", (json_int_t)scored);
    enum status status = report == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory to measure precisions")
                                        : fill(&content, &text, is_cancelled, report, error);
    mem_free(text.symbols);
    if (status != STATUS_OK) {
        json_decref(report);
        return status;
    }
    *ret_report = report;
    return STATUS_OK;
}
