/* lstmd sample: text from a model, to standard output as it is made. Thread: main; text is written on a compute
 * thread. */
#include <unistd.h>

#include "daemon/commands.h"
#include "daemon/local_batcher.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

static const struct option_row ROWS[] = {
    {"prompt", OPTION_TEXT, "TEXT", NULL, "what the text begins with; without it a new line"},
    {"length", OPTION_COUNT, "N", "500", "symbols to make"},
    {"temperature", OPTION_NUMBER, "T", "1", "0: always the likeliest symbol"},
    {"top-k", OPTION_COUNT, "N", NULL, "only the N likeliest symbols"},
    {"top-p", OPTION_NUMBER, "P", "1", "only the likeliest symbols that make up this share"},
    {"min-p", OPTION_NUMBER, "P", "0", "only symbols with this share of the likeliest one's probability"},
    {"typical-p", OPTION_NUMBER, "P", "1", "only the most typical symbols that make up this share"},
    {"repetition-penalty", OPTION_NUMBER, "X", "1", "above 1: what stood lately is less likely"},
    {"repetition-window", OPTION_COUNT, "N", "64", "symbols that --repetition-penalty looks back"},
    {"frequency-penalty", OPTION_NUMBER, "X", "0", "taken from a logit each time its symbol was made"},
    {"presence-penalty", OPTION_NUMBER, "X", "0", "taken from a logit once its symbol was made"},
    {"stop", OPTION_LIST, "TEXT", NULL, "the text ends before this"},
    {"min-tokens", OPTION_COUNT, "N", "0", "symbols to make before --stop counts"},
    {"pattern", OPTION_TEXT, "REGEX", NULL, "the text matches this regular expression as a whole"},
    {"seed", OPTION_COUNT, "N", NULL, "same seed, same text; without it another one each time"},
    {"threads", OPTION_COUNT, "N", "1", "compute threads"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

struct text {
    bool is_kept; /* else it is written to standard output at once */
    char *bytes;
    size_t length;
    bool is_incomplete; /* memory ran out */
};

static void on_text(void *context, const char *bytes, size_t length)
{
    struct text *text = context;
    if (!text->is_kept) {
        fwrite(bytes, 1, length, stdout);
        fflush(stdout);
        return;
    }
    char *grown = mem_reallocate(text->bytes, text->length + length, 1);
    if (!grown) {
        text->is_incomplete = true;
        return;
    }
    memcpy(grown + text->length, bytes, length);
    text->bytes = grown;
    text->length += length;
}

/* The prompt's symbols; without a prompt a new line, or the first symbol where the vocabulary has none. Free with
 * mem_free. */
static enum status encode_prompt(const struct vocabulary *vocabulary, const char *prompt, uint32_t **ret_symbols,
                                 size_t *ret_count, struct error *error)
{
    size_t length = prompt ? strlen(prompt) : 1;
    uint32_t *symbols = mem_allocate(length, sizeof *symbols);
    if (!symbols) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the prompt");
    }
    enum status status = vocabulary_encode(vocabulary, prompt ? prompt : "\n", length, UNKNOWN_SYMBOLS_ERROR, symbols,
                                           ret_count, prompt ? error : NULL);
    if ((status != STATUS_OK || *ret_count == 0) && !prompt) {
        symbols[0] = 0;
        *ret_count = 1;
        status = STATUS_OK;
    } else if (status == STATUS_OK && *ret_count == 0) {
        status = error_set(error, STATUS_INVALID, "holds no symbol");
    }
    if (status != STATUS_OK) {
        error_prefix(error, "--prompt");
        mem_free(symbols);
        return status;
    }
    *ret_symbols = symbols;
    return STATUS_OK;
}

static const char *finish_name(const struct generation *generation)
{
    return generation_progress(generation).finish == FINISH_LENGTH ? "length" : "stop";
}

static enum status print_json(const struct snapshot *snapshot, const struct text *text, uint64_t seed,
                              const struct generation *generation, struct error *error)
{
    if (text->is_incomplete) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the text after %zu bytes", text->length);
    }
    json_t *json =
        json_pack("{s:s, s:I, s:s%, s:s}", "model", snapshot_full_name(snapshot), "seed", (json_int_t)seed, "text",
                  text->bytes ? text->bytes : "", text->length, "finish_reason", finish_name(generation));
    enum status status = command_print_json(json, 0, error);
    json_decref(json);
    return status;
}

static enum status generate(const struct options *options, struct snapshot *snapshot,
                            const struct generation_options *generation, struct error *error)
{
    bool prints_json = options_is_given(options, "json");
    struct text text = {.is_kept = prints_json};
    struct local_row row = {.on_text = on_text, .context = &text};
    struct local_batcher *local = NULL;
    enum status status = local_batcher_create((size_t)options_count(options, "threads"), &local, error);
    if (status == STATUS_OK && !prints_json && options_text(options, "prompt")) {
        fputs(options_text(options, "prompt"), stdout);
    }
    if (status == STATUS_OK) {
        status = local_batcher_begin(local, snapshot, generation, &row, error);
    }
    if (status == STATUS_OK) {
        status = local_batcher_wait(local, error);
    }
    if (status == STATUS_OK && prints_json) {
        status = print_json(snapshot, &text, generation->seed, row.generation, error);
    } else if (status == STATUS_OK) {
        putchar('\n');
    }
    local_batcher_destroy(local);
    mem_free(text.bytes);
    return status;
}

/* NULL without --pattern. Unref it. */
static enum status make_constraint(const struct options *options, const struct snapshot *snapshot,
                                   struct constraint **ret_constraint, struct error *error)
{
    const char *pattern = options_text(options, "pattern");
    if (pattern == NULL) {
        *ret_constraint = NULL;
        return STATUS_OK;
    }
    enum status status =
        constraint_create(pattern, strlen(pattern), snapshot_vocabulary(snapshot), NULL, 0, ret_constraint, error);
    if (status != STATUS_OK) {
        error_prefix(error, "--pattern");
    }
    return status;
}

static enum status sample(const struct options *options, const struct model_reference *reference, struct error *error)
{
    struct snapshot *snapshot = NULL;
    TRY(model_reference_load(reference, &snapshot, error));
    uint32_t *prompt = NULL;
    const char *stop[OPTIONS_VALUES_MAX];
    size_t stop_lengths[OPTIONS_VALUES_MAX];
    size_t stop_count = 0;
    for (const char *text; (text = options_list(options, "stop", stop_count)) != NULL; stop_count++) {
        stop[stop_count] = text;
        stop_lengths[stop_count] = strlen(text);
    }
    struct generation_options generation = {
        .tokens_max = (size_t)options_count(options, "length"),
        .temperature = options_number(options, "temperature"),
        .top_k = options_is_given(options, "top-k") ? (size_t)options_count(options, "top-k") : 0,
        .top_p = options_number(options, "top-p"),
        .min_p = options_number(options, "min-p"),
        .typical_p = options_number(options, "typical-p"),
        .penalties = {.repetition = options_number(options, "repetition-penalty"),
                      .repetition_window = (size_t)options_count(options, "repetition-window"),
                      .frequency = options_number(options, "frequency-penalty"),
                      .presence = options_number(options, "presence-penalty")},
        .stop = stop,
        .stop_lengths = stop_lengths,
        .stop_count = stop_count,
        .tokens_min = (size_t)options_count(options, "min-tokens"),
        .seed = options_is_given(options, "seed") ? options_count(options, "seed") : rng_system() >> 11};
    enum status status = encode_prompt(snapshot_vocabulary(snapshot), options_text(options, "prompt"), &prompt,
                                       &generation.prompt_count, error);
    generation.prompt = prompt;
    if (status == STATUS_OK) {
        status = make_constraint(options, snapshot, &generation.constraint, error);
    }
    if (status == STATUS_OK) {
        status = generate(options, snapshot, &generation, error);
    }
    constraint_unref(generation.constraint);
    mem_free(prompt);
    snapshot_unref(snapshot);
    return status;
}

int command_sample(int argc, char **argv)
{
    struct options options;
    struct model_reference reference;
    struct error error;
    int exit_status;
    if (!command_parse_model(&options, ROWS, sizeof ROWS / sizeof ROWS[0], "MODELS/NAME[@VERSION] [OPTION]…", 1, argc,
                             argv, &reference, &exit_status)) {
        return exit_status;
    }
    enum status status = sample(&options, &reference, &error);
    return status == STATUS_OK ? EXIT_DONE : command_fail("sample", &error);
}
