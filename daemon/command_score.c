/* lstmd score: how well a model predicts a text: the mean of −log p(symbol | all before it). Thread: main. The text
 * goes through the same plan as generation, as forced steps; with --adapt once more through runs that learn from it. */
#include <math.h>

#include "daemon/commands.h"
#include "daemon/local_batcher.h"
#include "engine/base/mem.h"

/* A longer text is read in pieces, each after this many symbols of the one before, whose scores do not count again. */
enum { CONTEXT_SYMBOLS = 4096 };

static const struct option_row ROWS[] = {
    {"precision", OPTION_TEXT, "P", "fp32", "fp32, bf16 or int8: of weights and of what layers hand on"},
    {"adapt", OPTION_TEXT, "WEIGHTS", NULL, "output or all: a copy of them goes on learning from the text; the gain"},
    {"learning-rate", OPTION_NUMBER, "R", NULL, "of --adapt; without it WEIGHTS' own default"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

/* What was asked for. */
struct request {
    struct model_reference model;
    const char *text; /* a file */
    const char *precision;
    bool prints_json;
    bool adapts;
    enum adaptation_weights weights;
    double learning_rate; /* 0: the default */
};

struct score {
    size_t symbols;                    /* that had a context: all but the first */
    uint64_t characters;               /* of these */
    double nats;                       /* summed */
    double adapted_nats;               /* where it adapts */
    struct adaptation_options adapted; /* in what way */
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

/* ---- telling ---- */

static double bits_per_character(const struct score *score, double nats)
{
    return nats / log(2) / (double)(score->characters ? score->characters : 1);
}

/* Adds nats, nats_per_symbol, bits_per_character and perplexity; false when out of memory. */
static bool add_loss(json_t *json, const struct score *score, double summed)
{
    double nats = summed / (double)score->symbols;
    bool has_perplexity = isfinite(exp(nats)); /* beyond 709 nats no double holds it */
    return json_object_set_new(json, "nats", json_real(summed)) == 0 &&
           json_object_set_new(json, "nats_per_symbol", json_real(nats)) == 0 &&
           json_object_set_new(json, "bits_per_character", json_real(bits_per_character(score, summed))) == 0 &&
           json_object_set_new(json, "perplexity", has_perplexity ? json_real(exp(nats)) : json_string("Infinity")) ==
               0;
}

static double gain(const struct score *score)
{
    return (score->nats - score->adapted_nats) / (double)score->symbols;
}

static bool add_adapted(json_t *json, const struct score *score)
{
    const struct adaptation_options *with = &score->adapted;
    json_t *adapted =
        json_pack("{s:s, s:s, s:f, s:I}", "weights", adaptation_weights_name(with->weights), "optimizer", "adam",
                  "learning_rate", with->learning_rate, "segment_symbols", (json_int_t)with->segment_symbols);
    return json_object_set_new(json, "adapted", adapted) == 0 && add_loss(adapted, score, score->adapted_nats) &&
           json_object_set_new(adapted, "gain_nats_per_symbol", json_real(gain(score))) == 0;
}

static enum status print_json(const struct request *request, const char *name, const struct score *score,
                              struct error *error)
{
    json_t *json = json_pack("{s:s, s:s, s:I}", "model", name, "precision", request->precision, "symbols",
                             (json_int_t)score->symbols);
    bool is_whole = add_loss(json, score, score->nats) && (!request->adapts || add_adapted(json, score));
    enum status status = command_print_json(is_whole ? json : NULL, 0, error);
    json_decref(json);
    return status;
}

static void print_loss(const char *name, const char *how, const struct score *score, double summed)
{
    double nats = summed / (double)score->symbols;
    printf("%s%s: %zu symbols, %.4f nats per symbol, %.4f bits per character, perplexity %.4f\n", name, how,
           score->symbols, nats, bits_per_character(score, summed), exp(nats));
}

static void print_text(const struct request *request, const char *name, const struct score *score)
{
    print_loss(name, "", score, score->nats);
    if (request->adapts) {
        print_loss(name, request->weights == ADAPTATION_ALL ? ", adapting" : ", adapting its output layer", score,
                   score->adapted_nats);
        printf("gain: %.4f nats per symbol, %.1f %%\n", gain(score), 100 * (1 - score->adapted_nats / score->nats));
    }
}

/* ---- the command ---- */

/* Once more, learning. */
static enum status adapt(const struct request *request, const struct snapshot *snapshot, const uint32_t *symbols,
                         size_t count, struct score *score, struct error *error)
{
    struct model *model = NULL;
    struct adaptation *adaptation = NULL;
    char path[MODEL_REFERENCE_PATH_BYTES_MAX + 32];
    uint64_t version = snapshot_version(snapshot);
    score->adapted = adaptation_defaults(request->weights, vocabulary_kind(snapshot_vocabulary(snapshot)));
    if (request->learning_rate > 0) {
        score->adapted.learning_rate = request->learning_rate;
    }
    model_reference_version_path(&request->model, version, path);
    TRY(model_create_from_version(request->model.name, path, version, &model, error));
    enum status status = model_adapt(model, &score->adapted, &adaptation, error);
    if (status == STATUS_OK) {
        status = adaptation_read(adaptation, symbols, count, &score->adapted_nats, error);
    }
    adaptation_destroy(adaptation);
    model_unref(model);
    return status;
}

static enum status measure(const struct request *request, struct snapshot *snapshot, const struct corpus *corpus,
                           uint32_t *symbols, size_t count, struct score *score, struct error *error)
{
    struct corpus_stretch scored = {.begin = 1, .count = count - 1};
    TRY(corpus_copy_symbols(corpus, 0, count, (int32_t *)symbols, error)); /* ids are below 2^20 */
    TRY(score_symbols(snapshot, symbols, count, score, error));
    if (request->adapts) {
        TRY(adapt(request, snapshot, symbols, count, score, error));
    }
    return corpus_count_characters(corpus, scored, &score->characters, error);
}

static enum status score_corpus(const struct request *request, struct snapshot *snapshot, struct corpus *corpus,
                                struct error *error)
{
    TRY(corpus_encode(corpus, snapshot_vocabulary(snapshot), error));
    size_t count = corpus_symbol_count(corpus);
    if (count < 2) {
        return error_set(error, STATUS_INVALID, "%s: %zu symbols, and the first has no context: at least 2",
                         request->text, count);
    }
    uint32_t *symbols = mem_allocate(count, sizeof *symbols);
    if (!symbols) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu symbols", count);
    }
    struct score score = {.symbols = 0};
    enum status status = measure(request, snapshot, corpus, symbols, count, &score, error);
    mem_free(symbols);
    TRY(status);
    if (request->prints_json) {
        return print_json(request, snapshot_full_name(snapshot), &score, error);
    }
    print_text(request, snapshot_full_name(snapshot), &score);
    return STATUS_OK;
}

static enum status score(const struct request *request, struct error *error)
{
    struct snapshot *snapshot = NULL;
    struct corpus *corpus = NULL;
    TRY(model_reference_load(&request->model, &snapshot, error));
    struct corpus_source source = {.parts = {[CORPUS_TRAIN] = {.paths = &request->text, .path_count = 1}},
                                   .kind = vocabulary_kind(snapshot_vocabulary(snapshot))};
    enum status status = corpus_create(&source, &corpus, error);
    if (status == STATUS_OK) {
        status = score_corpus(request, snapshot, corpus, error);
    }
    corpus_destroy(corpus);
    snapshot_unref(snapshot);
    return status;
}

/* What the options say, besides the model. */
static enum status read_request(const struct options *options, struct request *request, struct error *error)
{
    request->text = options->positional[1];
    request->precision = options_text(options, "precision");
    request->prints_json = options_is_given(options, "json");
    request->adapts = options_is_given(options, "adapt");
    if (!rnn_precision_find(request->precision, &request->model.precision)) {
        return error_set(error, STATUS_INVALID, "--precision is '%.40s', not fp32, bf16 or int8", request->precision);
    }
    if (request->adapts && !adaptation_weights_find(options_text(options, "adapt"), &request->weights)) {
        return error_set(error, STATUS_INVALID, "--adapt is '%.40s', not output or all",
                         options_text(options, "adapt"));
    }
    if (request->adapts && request->model.precision != RNN_PRECISION_FP32) {
        return error_set(error, STATUS_INVALID, "--adapt learns in fp32, not in %s", request->precision);
    }
    if (options_is_given(options, "learning-rate")) {
        request->learning_rate = options_number(options, "learning-rate");
        if (!request->adapts || request->learning_rate <= 0) {
            return error_set(error, STATUS_INVALID, "--learning-rate takes a number above 0, with --adapt");
        }
    }
    return STATUS_OK;
}

int command_score(int argc, char **argv)
{
    struct options options;
    struct request request = {.learning_rate = 0};
    struct error error;
    int exit_status;
    if (!command_parse_model(&options, ROWS, sizeof ROWS / sizeof ROWS[0], "MODELS/NAME[@VERSION] TEXTFILE [OPTION]…",
                             2, argc, argv, &request.model, &exit_status)) {
        return exit_status;
    }
    if (read_request(&options, &request, &error) != STATUS_OK) {
        command_fail("score", &error);
        return EXIT_USAGE;
    }
    return score(&request, &error) == STATUS_OK ? EXIT_DONE : command_fail("score", &error);
}
