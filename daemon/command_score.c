/* lstmd score: how well a model predicts a text: the mean of −log p(symbol | all before it). Thread: main. The text
 * goes through the same plan as generation, as forced steps. */
#include <math.h>

#include "daemon/commands.h"
#include "daemon/local_batcher.h"
#include "engine/base/mem.h"

/* A longer text is read in pieces, each after this many symbols of the one before, whose scores do not count again. */
enum { CONTEXT_SYMBOLS = 4096 };

static const struct option_row ROWS[] = {
    {"precision", OPTION_TEXT, "P", "fp32", "fp32, bf16 or int8: of weights and of what layers hand on"},
    {"adapt", OPTION_FLAG, NULL, NULL, "not built yet"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

struct score {
    double nats;    /* summed */
    size_t symbols; /* that had a context: all but the first */
};

static enum status score_piece(struct snapshot *snapshot, const uint32_t *symbols, size_t count, size_t counted_from,
                               struct score *score, struct error *error)
{
    struct local_batcher *local = NULL;
    struct local_row row = {.on_text = NULL};
    struct generation_options options = {.prompt = symbols,
                                         .prompt_count = count,
                                         .top_p = 1,
                                         .want_prompt_logprobs = true,
                                         .priority = GENERATION_PRIORITY_LOW};
    TRY(local_batcher_create(1, &local, error));
    enum status status = local_batcher_begin(local, snapshot, &options, &row, error);
    if (status == STATUS_OK) {
        status = local_batcher_wait(local, error);
    }
    const float *logprobs = status == STATUS_OK ? generation_prompt_logprobs(row.generation) : NULL;
    for (size_t i = counted_from; logprobs && i < count; i++) {
        score->nats -= (double)logprobs[i];
        score->symbols++;
    }
    local_batcher_destroy(local);
    return status;
}

static enum status score_symbols(struct snapshot *snapshot, const uint32_t *symbols, size_t count, struct score *score,
                                 struct error *error)
{
    size_t begin = 0;
    size_t counted_from = 1;
    for (;;) {
        size_t length = count - begin < GENERATION_PROMPT_SYMBOLS_MAX ? count - begin : GENERATION_PROMPT_SYMBOLS_MAX;
        TRY(score_piece(snapshot, symbols + begin, length, counted_from, score, error));
        if (begin + length == count) {
            return STATUS_OK;
        }
        begin += length - CONTEXT_SYMBOLS;
        counted_from = CONTEXT_SYMBOLS;
    }
}

static enum status print(const struct options *options, const struct snapshot *snapshot, const struct score *score,
                         uint64_t characters, struct error *error)
{
    double nats = score->nats / (double)score->symbols;
    double bits = score->nats / log(2) / (double)(characters ? characters : 1);
    if (!options_is_given(options, "json")) {
        printf("%s: %zu symbols, %.4f nats per symbol, %.4f bits per character, perplexity %.4f\n",
               snapshot_full_name(snapshot), score->symbols, nats, bits, exp(nats));
        return STATUS_OK;
    }
    bool has_perplexity = isfinite(exp(nats)); /* beyond 709 nats no double holds it */
    json_t *json = json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:o}", "model", snapshot_full_name(snapshot), "precision",
                             options_text(options, "precision"), "symbols", (json_int_t)score->symbols, "nats",
                             score->nats, "nats_per_symbol", nats, "bits_per_character", bits, "perplexity",
                             has_perplexity ? json_real(exp(nats)) : json_string("Infinity"));
    enum status status = command_print_json(json, 0, error);
    json_decref(json);
    return status;
}

static enum status score_corpus(const struct options *options, struct snapshot *snapshot, struct corpus *corpus,
                                struct error *error)
{
    TRY(corpus_encode(corpus, snapshot_vocabulary(snapshot), error));
    size_t count = corpus_symbol_count(corpus);
    if (count < 2) {
        return error_set(error, STATUS_INVALID, "%s: %zu symbols, and the first has no context: at least 2",
                         options->positional[1], count);
    }
    uint32_t *symbols = mem_allocate(count, sizeof *symbols);
    if (!symbols) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu symbols", count);
    }
    struct score score = {.symbols = 0};
    struct corpus_stretch scored = {.begin = 1, .count = count - 1};
    uint64_t characters = 0;
    enum status status = corpus_copy_symbols(corpus, 0, count, (int32_t *)symbols, error); /* ids are below 2^20 */
    if (status == STATUS_OK) {
        status = score_symbols(snapshot, symbols, count, &score, error);
    }
    if (status == STATUS_OK) {
        status = corpus_count_characters(corpus, scored, &characters, error);
    }
    if (status == STATUS_OK) {
        status = print(options, snapshot, &score, characters, error);
    }
    mem_free(symbols);
    return status;
}

static enum status score(const struct options *options, const struct model_reference *reference, struct error *error)
{
    struct snapshot *snapshot = NULL;
    struct corpus *corpus = NULL;
    TRY(model_reference_load(reference, &snapshot, error));
    struct corpus_source source = {.parts = {[CORPUS_TRAIN] = {.paths = &options->positional[1], .path_count = 1}},
                                   .kind = vocabulary_kind(snapshot_vocabulary(snapshot))};
    enum status status = corpus_create(&source, &corpus, error);
    if (status == STATUS_OK) {
        status = score_corpus(options, snapshot, corpus, error);
    }
    corpus_destroy(corpus);
    snapshot_unref(snapshot);
    return status;
}

int command_score(int argc, char **argv)
{
    struct options options;
    struct model_reference reference;
    struct error error;
    int exit_status;
    if (!command_parse_model(&options, ROWS, sizeof ROWS / sizeof ROWS[0], "MODELS/NAME[@VERSION] TEXTFILE [OPTION]…",
                             2, argc, argv, &reference, &exit_status)) {
        return exit_status;
    }
    if (!rnn_precision_find(options_text(&options, "precision"), &reference.precision)) {
        error_set(&error, STATUS_INVALID, "--precision is '%.40s', not fp32, bf16 or int8",
                  options_text(&options, "precision"));
        command_fail("score", &error);
        return EXIT_USAGE;
    }
    enum status status = options_is_given(&options, "adapt")
                             ? error_set(&error, STATUS_UNSUPPORTED, "--adapt is not built yet")
                             : score(&options, &reference, &error);
    return status == STATUS_OK ? EXIT_DONE : command_fail("score", &error);
}
