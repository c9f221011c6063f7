/* lstmd bench: what this build does on this machine, one JSON object a measurement. A model of random weights is saved
 * to a temporary directory and loaded as any other; then the public engine is timed. Thread: main. */
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/bench_serve.h"
#include "daemon/commands.h"
#include "daemon/local_batcher.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

static const struct option_row ROWS[] = {
    {"units", OPTION_COUNT, "N", "512", "units of a layer"},
    {"layers", OPTION_COUNT, "N", "2", "recurrent layers"},
    {"cell", OPTION_TEXT, "KIND", "lstm", "lstm, gru or rnn"},
    {"vocabulary", OPTION_COUNT, "N", "83", "symbols"},
    {"embedding", OPTION_COUNT, "N", NULL, "size of a symbol's embedding; without it symbols go in one-hot"},
    {"threads", OPTION_COUNT, "N", "2", "compute threads, or trainer threads"},
    {"batch", OPTION_LIST, "N", NULL, "decode, train: rows, may be repeated; 1, 8, 64, 256 and 64"},
    {"clients", OPTION_LIST, "N", NULL, "serve, first-byte, run: clients, may be repeated; 1, 8, 64, or 1"},
    {"length", OPTION_COUNT, "N", "200", "serve, first-byte: symbols of a request"},
    {"sequence-length", OPTION_COUNT, "N", "64", "train: symbols of a row between two updates"},
    {"dropout", OPTION_NUMBER, "P", "0", "train"},
    {"seconds", OPTION_NUMBER, "S", "3", "time of one measurement"},
    {"precision", OPTION_TEXT, "P", "fp32", "decode, serve, first-byte: fp32, bf16 or int8; others fp32"},
    {"json", OPTION_FLAG, NULL, NULL, "JSON lines, as without it"},
};

struct cell_facts {
    const char *name;
    size_t gate_count; /* columns of its kernels for each unit */
};

static const struct cell_facts CELLS[] = {{"lstm", 4}, {"gru", 3}, {"rnn", 1}};

struct bench {
    struct options options;
    size_t units;
    size_t layers;
    const struct cell_facts *cell;
    size_t vocabulary;
    size_t embedding; /* 0: one-hot */
    size_t threads;
    enum rnn_precision precision;
    double seconds;
    char directory[64]; /* of the temporary model */
};

static long peak_rss_kib(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_maxrss : 0;
}

/* Prints `json` with what all measurements have in common; takes it over. */
static enum status print(const struct bench *bench, json_t *json, struct error *error)
{
    struct engine_info info = engine_info();
    json_t *common = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:s, s:s, s:s}", "peer", "lstmd", "cell", bench->cell->name, "units",
        (json_int_t)bench->units, "layers", (json_int_t)bench->layers, "vocabulary", (json_int_t)bench->vocabulary,
        "threads", (json_int_t)bench->threads, "precision", rnn_precision_name(bench->precision), "peak_rss_bytes",
        (json_int_t)peak_rss_kib() * 1024, "kernels", info.kernels, "blas", info.blas, "version", info.version);
    bool is_whole = json != NULL && json_object_update(json, common) == 0;
    enum status status = command_print_json(is_whole ? json : NULL, 6, error);
    json_decref(common);
    json_decref(json);
    return status;
}

/* ---- the model ---- */

enum { SYMBOL_BYTES = 3 };

/* Symbol number i, a character of SYMBOL_BYTES: U+4E00 + i in UTF-8. */
static void symbol_text(size_t i, char *text)
{
    size_t code_point = 0x4e00 + i;
    text[0] = (char)(0xe0 | code_point >> 12);
    text[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
    text[2] = (char)(0x80 | (code_point & 0x3f));
}

static json_t *make_specification(const struct bench *bench)
{
    json_t *symbols = json_array();
    for (size_t i = 0; i < bench->vocabulary; i++) {
        char text[SYMBOL_BYTES];
        symbol_text(i, text);
        json_array_append_new(symbols, json_stringn(text, SYMBOL_BYTES));
    }
    return json_pack("{s:s, s:I, s:I, s:o, s:{s:s, s:o}}", "cell", bench->cell->name, "layers",
                     (json_int_t)bench->layers, "units", (json_int_t)bench->units, "embedding",
                     bench->embedding ? json_integer((json_int_t)bench->embedding) : json_null(), "vocabulary", "kind",
                     "characters", "symbols", symbols);
}

static enum status make_model(const struct bench *bench, struct model **ret_model, struct error *error)
{
    struct model *model = NULL;
    TRY(model_create("bench", &model, error));
    json_t *specification = make_specification(bench);
    enum status status = model_make_language_model(model, specification, 1, error);
    json_decref(specification);
    if (status != STATUS_OK) {
        model_unref(model);
        return status;
    }
    *ret_model = model;
    return STATUS_OK;
}

/* Weights that each symbol is multiplied by: all in training; in decoding all but the table that the first layer's
 * input is a row of. */
static size_t weight_count(const struct bench *bench, bool is_decoding)
{
    size_t below = bench->embedding ? bench->embedding : bench->vocabulary;
    size_t count = is_decoding ? 0 : bench->embedding * bench->vocabulary;
    for (size_t layer = 0; layer < bench->layers; layer++) {
        size_t inputs = layer == 0 && is_decoding ? 0 : below;
        count += (inputs + bench->units) * bench->cell->gate_count * bench->units;
        below = bench->units;
    }
    return count + bench->units * bench->vocabulary;
}

/* ---- decoding ---- */

/* Makes `tokens` symbols in each of `batch` rows; how long it took. */
static enum status decode(const struct bench *bench, struct snapshot *snapshot, size_t batch, size_t tokens,
                          double *ret_seconds, struct error *error)
{
    struct local_row *rows = mem_allocate(batch, sizeof *rows);
    struct local_batcher *local = NULL;
    if (!rows) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu rows", batch);
    }
    enum status status = local_batcher_create(bench->threads, &local, error);
    uint64_t began_ns = clock_now_ns();
    for (size_t i = 0; i < batch && status == STATUS_OK; i++) {
        const uint32_t prompt = (uint32_t)(i % bench->vocabulary);
        struct generation_options options = {
            .prompt = &prompt, .prompt_count = 1, .tokens_max = tokens, .temperature = 0.8, .top_p = 1, .seed = i};
        status = local_batcher_begin(local, snapshot, &options, &rows[i], error);
    }
    if (status == STATUS_OK) {
        status = local_batcher_wait(local, error);
        *ret_seconds = (double)(clock_now_ns() - began_ns) * 1e-9;
    }
    local_batcher_destroy(local);
    mem_free(rows);
    return status;
}

static enum status measure_decode(const struct bench *bench, struct snapshot *snapshot, size_t batch,
                                  struct error *error)
{
    enum { WARM_UP_TOKENS = 100 };
    double seconds = 0;
    TRY(decode(bench, snapshot, batch, WARM_UP_TOKENS, &seconds, error));
    size_t tokens = (size_t)(bench->seconds / seconds * WARM_UP_TOKENS) + 1;
    tokens = tokens < GENERATION_TOKENS_MAX ? tokens : GENERATION_TOKENS_MAX;
    TRY(decode(bench, snapshot, batch, tokens, &seconds, error));
    double speed = (double)(batch * tokens) / seconds;
    return print(bench,
                 json_pack("{s:s, s:I, s:f, s:f, s:f}", "kind", "decode", "batch", (json_int_t)batch, "us_per_symbol",
                           seconds / (double)tokens * 1e6, "chars_per_s", speed, "gops",
                           2 * (double)weight_count(bench, true) * speed * 1e-9),
                 error);
}

static enum status bench_decode(const struct bench *bench, const size_t *batches, size_t count, struct error *error)
{
    struct model *model = NULL;
    struct snapshot *snapshot = NULL;
    uint64_t version;
    char path[128];
    TRY(make_model(bench, &model, error));
    enum status status = model_save(model, bench->directory, NULL, NULL, &version, error);
    model_unref(model);
    if (status == STATUS_OK) {
        snprintf(path, sizeof path, "%s/%llu", bench->directory, (unsigned long long)version);
        status = snapshot_load(path, "bench", version, bench->precision, &snapshot, error);
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = measure_decode(bench, snapshot, batches[i], error);
    }
    snapshot_unref(snapshot);
    return status;
}

/* ---- training ---- */

/* What training_event says last. */
static void on_event(void *context, struct training *training, const struct training_event *event)
{
    (void)training;
    struct training_event *last = context;
    *last = *event;
}

/* Random text over the vocabulary, or NULL when memory runs out. Free with mem_free. */
static char *make_text(const struct bench *bench, size_t symbols)
{
    char *text = mem_allocate(symbols, SYMBOL_BYTES);
    for (size_t i = 0; text && i < symbols; i++) {
        symbol_text(rng_philox(1, 0, i).word[0] % bench->vocabulary, text + i * SYMBOL_BYTES);
    }
    return text;
}

static enum status run_training(const struct bench *bench, const json_t *request, const char *text, size_t length,
                                struct training_event *ret_last, struct error *error)
{
    struct model *model = NULL;
    struct training_job *job = NULL;
    struct training_job_options options = {.model_directory = bench->directory,
                                           .request = request,
                                           .corpus = {.text = text, .text_bytes = length},
                                           .discards_unfinished = true,
                                           .threads = bench->threads,
                                           .name = "lstmd bench"};
    struct training_callbacks callbacks = {.on_event = on_event, .context = ret_last};
    TRY(make_model(bench, &model, error));
    enum status status = training_job_create(model, &options, &callbacks, &job, error);
    if (status == STATUS_OK) {
        status = training_job_run(job, error);
    }
    training_job_destroy(job);
    model_unref(model);
    return status;
}

static enum status measure_train(const struct bench *bench, size_t batch, struct error *error)
{
    enum { WINDOWS = 8 };
    size_t time = (size_t)options_count(&bench->options, "sequence-length");
    size_t symbols = batch * time * WINDOWS + 1;
    char *text = make_text(bench, symbols);
    if (!text) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu symbols", symbols);
    }
    struct training_event last = {.step = 0};
    json_t *request =
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "batch", (json_int_t)batch, "sequence_length", (json_int_t)time,
                  "max_seconds", bench->seconds, "dropout", options_number(&bench->options, "dropout"),
                  "validation_fraction", 0.0, "checkpoint_seconds", 1e9);
    enum status status = run_training(bench, request, text, symbols * SYMBOL_BYTES, &last, error);
    json_decref(request);
    mem_free(text);
    if (status != STATUS_OK) {
        return status;
    }
    double speed = last.symbols_per_second;
    double gops = 6 * (double)weight_count(bench, false) * speed * 1e-9;
    return print(bench,
                 json_pack("{s:s, s:I, s:I, s:f, s:f, s:f}", "kind", "train", "batch", (json_int_t)batch,
                           "sequence_length", (json_int_t)time, "ms_per_step", (double)(batch * time) / speed * 1e3,
                           "chars_per_s", speed, "gops", gops),
                 error);
}

static enum status bench_train(const struct bench *bench, const size_t *batches, size_t count, struct error *error)
{
    for (size_t i = 0; i < count; i++) {
        TRY(measure_train(bench, batches[i], error));
    }
    return STATUS_OK;
}

/* ---- serving ---- */

enum { PROMPT_SYMBOLS = 4 };

static enum status serve(const struct bench *bench, enum bench_load load, const char *models, size_t clients,
                         struct bench_serve_result *ret_result, struct error *error)
{
    char prompt[PROMPT_SYMBOLS * SYMBOL_BYTES + 1] = "";
    for (size_t i = 0; i < PROMPT_SYMBOLS; i++) {
        symbol_text(i % bench->vocabulary, prompt + i * SYMBOL_BYTES);
    }
    struct bench_serve_options options = {.models_directory = models,
                                          .load = load,
                                          .precision = bench->precision,
                                          .prompt = prompt,
                                          .clients = clients,
                                          .tokens = (size_t)options_count(&bench->options, "length"),
                                          .threads = bench->threads,
                                          .seconds = bench->seconds};
    return bench_serve(&options, ret_result, error);
}

static enum status measure_texts(const struct bench *bench, const char *models, size_t clients, struct error *error)
{
    struct bench_serve_result result;
    TRY(serve(bench, BENCH_LOAD_TEXT, models, clients, &result, error));
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:I}", "kind", "serve", "clients",
                             (json_int_t)clients, "max_tokens", (json_int_t)options_count(&bench->options, "length"),
                             "requests", (json_int_t)result.requests, "errors", (json_int_t)result.errors,
                             "chars_per_s", result.chars_per_s, "p50_ms", result.p50_ms, "p99_ms", result.p99_ms,
                             "daemon_peak_rss_bytes", (json_int_t)result.peak_rss_bytes);
    return print(bench, json, error);
}

static enum status measure_first_bytes(const struct bench *bench, const char *models, size_t clients,
                                       struct error *error)
{
    struct bench_serve_result result;
    TRY(serve(bench, BENCH_LOAD_FIRST_BYTE, models, clients, &result, error));
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f}", "kind", "first-byte", "clients", (json_int_t)clients,
                  "prompt_symbols", (json_int_t)PROMPT_SYMBOLS, "requests", (json_int_t)result.requests, "errors",
                  (json_int_t)result.errors, "p50_us", result.p50_ms * 1e3, "p99_us", result.p99_ms * 1e3);
    return print(bench, json, error);
}

/* Runs of a constant: what a request costs besides computing. */
static enum status measure_runs(const struct bench *bench, const char *models, size_t clients, struct error *error)
{
    struct bench_serve_result result;
    TRY(serve(bench, BENCH_LOAD_RUN, models, clients, &result, error));
    json_t *json = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f}", "kind", "run", "clients", (json_int_t)clients,
                             "requests", (json_int_t)result.requests, "errors", (json_int_t)result.errors, "runs_per_s",
                             (double)result.requests / result.seconds, "p50_us", result.p50_ms * 1e3, "p99_us",
                             result.p99_ms * 1e3);
    return print(bench, json, error);
}

/* Saves a model, to be served from there, and measures with each number of clients. */
static enum status with_model(const struct bench *bench, const size_t *clients, size_t count,
                              enum status (*measure)(const struct bench *bench, const char *models, size_t clients,
                                                     struct error *error),
                              struct error *error)
{
    struct model *model = NULL;
    uint64_t version;
    char path[128];
    snprintf(path, sizeof path, "%s/bench", bench->directory);
    TRY(make_model(bench, &model, error));
    enum status status = model_save(model, path, NULL, NULL, &version, error);
    model_unref(model);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = measure(bench, bench->directory, clients[i], error);
    }
    return status;
}

static enum status bench_serving(const struct bench *bench, const size_t *clients, size_t count, struct error *error)
{
    return with_model(bench, clients, count, measure_texts, error);
}

static enum status bench_first_bytes(const struct bench *bench, const size_t *clients, size_t count,
                                     struct error *error)
{
    return with_model(bench, clients, count, measure_first_bytes, error);
}

static enum status bench_runs(const struct bench *bench, const size_t *clients, size_t count, struct error *error)
{
    return with_model(bench, clients, count, measure_runs, error);
}

/* ---- arguments ---- */

enum { SIZES_MAX = 16 };

/* One thing that can be measured: which option says how large, at most how large, and how large without it. */
struct subject {
    const char *name;
    enum status (*measure)(const struct bench *bench, const size_t *sizes, size_t count, struct error *error);
    const char *option;
    size_t most;
    size_t usual[4];
    size_t usual_count;
    bool has_precision; /* others compute in fp32 */
};

static const struct subject SUBJECTS[] = {
    {"decode", bench_decode, "batch", LOCAL_BATCHER_ROWS_MAX, {1, 8, 64, 256}, 4, true},
    {"train", bench_train, "batch", TRAINING_BATCH_MAX, {64}, 1, false},
    {"serve", bench_serving, "clients", BENCH_CLIENTS_MAX, {1, 8, 64}, 3, true},
    {"first-byte", bench_first_bytes, "clients", BENCH_CLIENTS_MAX, {1}, 1, true},
    {"run", bench_runs, "clients", BENCH_CLIENTS_MAX, {1}, 1, false},
};

static enum status read_sizes(const struct bench *bench, const struct subject *subject, size_t *sizes,
                              size_t *ret_count, struct error *error)
{
    size_t count = 0;
    const char *text;
    while (count < SIZES_MAX && (text = options_list(&bench->options, subject->option, count)) != NULL) {
        uint64_t size = 0;
        TRY(options_read_count(text, &size, error));
        if (size == 0 || size > subject->most) {
            return error_set(error, STATUS_INVALID, "--%s %s: from 1 to %zu", subject->option, text, subject->most);
        }
        sizes[count++] = (size_t)size;
    }
    if (count == 0) {
        count = subject->usual_count;
        memcpy(sizes, subject->usual, count * sizeof *sizes);
    }
    *ret_count = count;
    return STATUS_OK;
}

static const struct cell_facts *find_cell(const char *name)
{
    for (size_t i = 0; i < sizeof CELLS / sizeof CELLS[0]; i++) {
        if (strcmp(CELLS[i].name, name) == 0) {
            return &CELLS[i];
        }
    }
    return NULL;
}

static enum status read_arguments(struct bench *bench, struct error *error)
{
    const struct options *options = &bench->options;
    bench->units = (size_t)options_count(options, "units");
    bench->layers = (size_t)options_count(options, "layers");
    bench->vocabulary = (size_t)options_count(options, "vocabulary");
    bench->embedding = options_is_given(options, "embedding") ? (size_t)options_count(options, "embedding") : 0;
    bench->threads = (size_t)options_count(options, "threads");
    bench->seconds = options_number(options, "seconds");
    bench->cell = find_cell(options_text(options, "cell"));
    if (bench->cell == NULL) {
        return error_set(error, STATUS_INVALID, "--cell is '%.40s', not lstm, gru or rnn",
                         options_text(options, "cell"));
    }
    if (bench->vocabulary < 1 || bench->vocabulary > 20000) {
        return error_set(error, STATUS_INVALID, "--vocabulary is %zu: from 1 to 20000", bench->vocabulary);
    }
    if (!(bench->seconds > 0)) {
        return error_set(error, STATUS_INVALID, "--seconds must be above 0");
    }
    return STATUS_OK;
}

static const struct subject *find_subject(const char *name)
{
    for (size_t i = 0; i < sizeof SUBJECTS / sizeof SUBJECTS[0]; i++) {
        if (strcmp(SUBJECTS[i].name, name) == 0) {
            return &SUBJECTS[i];
        }
    }
    return NULL;
}

static enum status run(struct bench *bench, const char *what, struct error *error)
{
    const struct subject *subject = find_subject(what);
    const char *precision = options_text(&bench->options, "precision");
    size_t sizes[SIZES_MAX];
    size_t count = 0;
    if (!subject) {
        return error_set(error, STATUS_INVALID, "'%.40s' is nothing to measure: decode, train, serve, first-byte, run",
                         what);
    }
    if (!rnn_precision_find(precision, &bench->precision)) {
        return error_set(error, STATUS_INVALID, "--precision is '%.40s', not fp32, bf16 or int8", precision);
    }
    if (bench->precision != RNN_PRECISION_FP32 && !subject->has_precision) {
        return error_set(error, STATUS_UNSUPPORTED, "--precision %s: %.40s is measured in fp32", precision, what);
    }
    TRY(read_arguments(bench, error));
    TRY(read_sizes(bench, subject, sizes, &count, error));
    const char *parent = getenv("TMPDIR");
    snprintf(bench->directory, sizeof bench->directory, "%.40s/lstmd-bench-XXXXXX", parent ? parent : "/tmp");
    int number = mkdtemp(bench->directory) ? 0 : errno;
    if (number != 0) {
        return error_set_errno(error, number, "make a directory in '%s'", parent ? parent : "/tmp");
    }
    enum status status = subject->measure(bench, sizes, count, error);
    enum status removed = directory_remove(bench->directory, status == STATUS_OK ? error : NULL);
    return status == STATUS_OK ? removed : status;
}

int command_bench(int argc, char **argv)
{
    struct bench bench = {.units = 0};
    int exit_status;
    if (!command_parse(&bench.options, ROWS, sizeof ROWS / sizeof ROWS[0],
                       "decode|train|serve|first-byte|run [OPTION]…", 1, 1, argc, argv, &exit_status)) {
        return exit_status;
    }
    struct error error;
    enum status status = run(&bench, bench.options.positional[0], &error);
    if (status == STATUS_OK) {
        return EXIT_DONE;
    }
    command_fail("bench", &error);
    return status == STATUS_INVALID ? EXIT_USAGE : EXIT_FAILED;
}
