/* Counting, and writing it all in Prometheus' text form. Thread: loop. Owns its table of counters. */
#include "daemon/metrics.h"

#include <stdarg.h>
#include <unistd.h>

#include "daemon/certificate.h"
#include "daemon/completion.h"
#include "daemon/registry.h"
#include "daemon/sequences.h"
#include "daemon/sessions.h"
#include "daemon/trainings.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

/* 0.1 ms to 5 minutes, each about twice the one before: between a turn of the loop and a long text. */
static const double bounds[] = {0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
                                0.2,    0.5,    1,      2,     5,     10,    30,   60,   300};
enum { BOUND_COUNT = sizeof bounds / sizeof *bounds, OUTCOME_BYTES = 12, OUTCOMES_MAX = 16, TEXT_BYTES_MAX = 8 << 20 };

static const struct {
    const char *name;
    const char *help;
} histograms[] = {
    {"lstmd_time_to_first_token_seconds", "From the request to its first symbol."},
    {"lstmd_inter_token_seconds", "Mean time between symbols, of each text."},
    {"lstmd_request_seconds", "From the request to the end of its text."},
    {"lstmd_queue_seconds", "From the request to the first decode step of each text."},
    {"lstmd_loop_turn_seconds", "What a turn of the event loop took, without its sleep."},
};
static_assert(sizeof histograms / sizeof *histograms == METRIC_HISTOGRAM_COUNT, "one row for each histogram");

struct counter {
    char model[MODEL_NAME_BYTES_MAX];
    char outcome[OUTCOME_BYTES];
    char key[MODEL_NAME_BYTES_MAX];
    uint64_t count;
};

struct metrics {
    struct counter counters[METRICS_COUNTERS_MAX]; /* an empty outcome: duplicate variables */
    size_t counter_count;
    struct {
        uint64_t buckets[BOUND_COUNT + 1];
        uint64_t count;
        double sum;
    } histograms[METRIC_HISTOGRAM_COUNT];
};

enum status metrics_create(struct metrics **ret_metrics, struct error *error)
{
    struct metrics *metrics = mem_allocate(1, sizeof *metrics);
    if (metrics == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for metrics");
    }
    *ret_metrics = metrics;
    return STATUS_OK;
}

void metrics_destroy(struct metrics *metrics)
{
    mem_free(metrics);
}

static struct counter *find_counter(struct metrics *metrics, const char *model, const char *outcome, const char *key)
{
    for (size_t i = 0; i < metrics->counter_count; i++) {
        struct counter *counter = &metrics->counters[i];
        if (strcmp(counter->model, model) == 0 && strcmp(counter->outcome, outcome) == 0 &&
            strcmp(counter->key, key) == 0) {
            return counter;
        }
    }
    return NULL;
}

static void count_up(struct metrics *metrics, const char *model, const char *outcome, const char *key)
{
    struct counter *counter = find_counter(metrics, model, outcome, key);
    if (counter == NULL && metrics->counter_count >= METRICS_COUNTERS_MAX - OUTCOMES_MAX) {
        model = "other";
        key = "";
        counter = find_counter(metrics, model, outcome, key);
    }
    if (counter == NULL) {
        CHECK(metrics->counter_count < METRICS_COUNTERS_MAX);
        counter = &metrics->counters[metrics->counter_count++];
        snprintf(counter->model, sizeof counter->model, "%s", model);
        snprintf(counter->outcome, sizeof counter->outcome, "%s", outcome);
        snprintf(counter->key, sizeof counter->key, "%s", key);
    }
    counter->count++;
}

void metrics_count_request(struct metrics *metrics, const char *model, const char *outcome, const char *key)
{
    CHECK(outcome[0] != '\0');
    count_up(metrics, model, outcome, key);
}

void metrics_count_duplicate(struct metrics *metrics, const char *model)
{
    count_up(metrics, model, "", "");
}

void metrics_observe(struct metrics *metrics, enum metric_histogram histogram, double seconds)
{
    size_t i = 0;
    while (i < BOUND_COUNT && seconds > bounds[i]) {
        i++;
    }
    metrics->histograms[histogram].buckets[i]++;
    metrics->histograms[histogram].count++;
    metrics->histograms[histogram].sum += seconds;
}

/* ---- Writing */

struct text {
    char *bytes;
    size_t length, capacity;
    bool has_failed;
};

static void add(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
static void add(struct text *text, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(length >= 0 && (size_t)length < sizeof line);
    if (text->length + (size_t)length > text->capacity) {
        size_t capacity = text->capacity == 0 ? 16384 : 2 * text->capacity;
        char *bytes = capacity > TEXT_BYTES_MAX ? NULL : mem_reallocate(text->bytes, capacity, 1);
        if (bytes == NULL) {
            text->has_failed = true;
            return;
        }
        text->bytes = bytes;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, line, (size_t)length);
    text->length += (size_t)length;
}

static void add_head(struct text *text, const char *name, const char *type, const char *help)
{
    add(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_value(struct text *text, const char *name, const char *type, const char *help, double value)
{
    add_head(text, name, type, help);
    add(text, "%s %.17g\n", name, value);
}

static void add_histograms(struct text *text, const struct metrics *metrics)
{
    for (size_t i = 0; i < METRIC_HISTOGRAM_COUNT; i++) {
        const char *name = histograms[i].name;
        uint64_t count = 0;
        add_head(text, name, "histogram", histograms[i].help);
        for (size_t j = 0; j < BOUND_COUNT; j++) {
            count += metrics->histograms[i].buckets[j];
            add(text, "%s_bucket{le=\"%g\"} %llu\n", name, bounds[j], (unsigned long long)count);
        }
        add(text, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)metrics->histograms[i].count);
        add(text, "%s_sum %.17g\n%s_count %llu\n", name, metrics->histograms[i].sum, name,
            (unsigned long long)metrics->histograms[i].count);
    }
}

static void add_requests(struct text *text, const struct metrics *metrics)
{
    add_head(text, "lstmd_requests_total", "counter", "Text requests by how they ended.");
    for (size_t i = 0; i < metrics->counter_count; i++) {
        const struct counter *counter = &metrics->counters[i];
        if (counter->outcome[0] != '\0') {
            add(text, "lstmd_requests_total{model=\"%s\",outcome=\"%s\",key=\"%s\"} %llu\n", counter->model,
                counter->outcome, counter->key, (unsigned long long)counter->count);
        }
    }
    add_head(text, "lstmd_duplicate_variables_total", "counter", "Builds refused since a variable existed already.");
    for (size_t i = 0; i < metrics->counter_count; i++) {
        const struct counter *counter = &metrics->counters[i];
        if (counter->outcome[0] == '\0') {
            add(text, "lstmd_duplicate_variables_total{model=\"%s\"} %llu\n", counter->model,
                (unsigned long long)counter->count);
        }
    }
}

static void add_batcher(struct text *text, const struct batcher *batcher)
{
    struct batcher_counters counters = batcher_counters(batcher);
    add_head(text, "lstmd_step_rows", "summary", "Rows of each decode step.");
    add(text, "lstmd_step_rows_sum %llu\nlstmd_step_rows_count %llu\n", (unsigned long long)counters.rows,
        (unsigned long long)counters.steps);
    add_head(text, "lstmd_symbols_total", "counter", "Symbols read from prompts, and made.");
    add(text, "lstmd_symbols_total{kind=\"prompt\"} %llu\nlstmd_symbols_total{kind=\"made\"} %llu\n",
        (unsigned long long)counters.symbols_prompt, (unsigned long long)counters.symbols_made);
    add_head(text, "lstmd_generations", "gauge", "Texts being made, and waiting to be.");
    add(text, "lstmd_generations{state=\"running\"} %zu\nlstmd_generations{state=\"waiting\"} %zu\n", counters.running,
        counters.waiting);
}

static void add_model_version(void *context, const struct registry_metrics *model)
{
    add(context, "lstmd_model_version{model=\"%s\"} %llu\n", model->name, (unsigned long long)model->version);
}

static void add_model_bytes(void *context, const struct registry_metrics *model)
{
    if (model->version > 0) {
        add(context, "lstmd_model_bytes{model=\"%s\",version=\"%llu\"} %zu\n", model->name,
            (unsigned long long)model->version, model->bytes);
    }
}

static void add_model_reloads(void *context, const struct registry_metrics *model)
{
    add(context, "lstmd_model_reloads_total{model=\"%s\",result=\"ok\"} %llu\n", model->name,
        (unsigned long long)model->reloads_ok);
    add(context, "lstmd_model_reloads_total{model=\"%s\",result=\"failed\"} %llu\n", model->name,
        (unsigned long long)model->reloads_failed);
}

static void add_train_loss(void *context, const char *model, double train_loss)
{
    add(context, "lstmd_train_loss{model=\"%s\"} %.9g\n", model, train_loss);
}

static void add_sessions(struct text *text, const struct sessions *sessions)
{
    struct sessions_counters counters = sessions_counters(sessions);
    add_value(text, "lstmd_sessions", "gauge", "Sessions that are kept.", (double)counters.count);
    add_value(text, "lstmd_session_bytes", "gauge", "Memory of sessions.", (double)counters.bytes);
    add_head(text, "lstmd_sessions_ended_total", "counter", "Sessions that ended by their time, and for want of room.");
    add(text, "lstmd_sessions_ended_total{reason=\"expired\"} %llu\n", (unsigned long long)counters.expired);
    add(text, "lstmd_sessions_ended_total{reason=\"memory\"} %llu\n", (unsigned long long)counters.evicted);
    add_value(text, "lstmd_session_saves_failed_total", "counter", "Files of sessions that could not be written.",
              (double)counters.saves_failed);
}

static void add_prompt_cache(struct text *text, struct prompt_cache *cache)
{
    struct prompt_cache_counters counters = {.count = 0};
    if (cache != NULL) {
        counters = prompt_cache_counters(cache);
    }
    add_value(text, "lstmd_prompt_cache_states", "gauge", "States of prompts that are kept.", (double)counters.count);
    add_value(text, "lstmd_prompt_cache_bytes", "gauge", "Memory of states of prompts.", (double)counters.bytes);
    add_value(text, "lstmd_prompt_cache_symbols_total", "counter", "Symbols of prompts that were not read again.",
              (double)counters.symbols_found);
}

static void add_tls(struct text *text, const struct server *server)
{
    if (server->certificate == NULL) {
        return;
    }
    struct http_handshakes handshakes = http_handshakes(server->http);
    add_value(text, "lstmd_certificate_remaining_seconds", "gauge",
              "Until the TLS certificate expires; below 0: it has.",
              (double)(certificate_expires_at(server->certificate) - time(NULL)));
    add_head(text, "lstmd_tls_handshakes_total", "counter", "TLS handshakes that came to their end, and that did not.");
    add(text, "lstmd_tls_handshakes_total{result=\"ok\"} %llu\nlstmd_tls_handshakes_total{result=\"failed\"} %llu\n",
        (unsigned long long)handshakes.done, (unsigned long long)handshakes.failed);
}

static double resident_bytes(void)
{
    unsigned long long total_pages = 0, resident_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return 0;
    }
    int found = fscanf(file, "%llu %llu", &total_pages, &resident_pages); /* NOLINT(cert-err34-c): the kernel's text */
    fclose(file);
    return found == 2 ? (double)resident_pages * (double)sysconf(_SC_PAGESIZE) : 0;
}

char *metrics_write(const struct server *server, size_t *ret_length)
{
    struct text text = {0};
    struct engine_info info = engine_info();
    add_head(&text, "lstmd_build_info", "gauge", "1; the labels say what this build is.");
    add(&text, "lstmd_build_info{version=\"%s\",kernels=\"%s\",blas=\"%s\"} 1\n", info.version, info.kernels,
        info.blas);
    add_requests(&text, server->metrics);
    add_histograms(&text, server->metrics);
    add_batcher(&text, server->batcher);
    add_head(&text, "lstmd_model_version", "gauge", "The version that serves; 0: none.");
    registry_visit(server->registry, add_model_version, &text);
    add_head(&text, "lstmd_model_bytes", "gauge", "Memory of the version that serves.");
    registry_visit(server->registry, add_model_bytes, &text);
    struct registry_memory memory = registry_memory(server->registry);
    add_value(&text, "lstmd_models_bytes", "gauge",
              "Memory of all versions that are loaded, being loaded, or still used by requests.",
              (double)memory.held_bytes);
    add_value(&text, "lstmd_models_bytes_max", "gauge", "What models_bytes_max allows of it; 0: no maximum.",
              (double)memory.bytes_max);
    add_head(&text, "lstmd_model_reloads_total", "counter", "Versions loaded, and refused.");
    registry_visit(server->registry, add_model_reloads, &text);
    add_head(&text, "lstmd_train_loss", "gauge", "Nats per symbol, of the model's last training.");
    trainings_visit(server->trainings, add_train_loss, &text);
    add_sessions(&text, server->sessions);
    add_value(&text, "lstmd_adapting_texts", "gauge", "Texts being made in sessions that adapt.",
              (double)completions_adapting_count(server->completions));
    add_value(&text, "lstmd_sequences", "gauge", "Sequences of the Open Inference Protocol that are kept.",
              (double)sequences_count(server->sequences));
    add_value(&text, "lstmd_sequence_bytes", "gauge", "Memory of the states of sequences.",
              (double)sequences_bytes(server->sequences));
    add_prompt_cache(&text, server->prompt_cache);
    add_value(&text, "lstmd_requests_in_flight", "gauge", "HTTP requests that came and did not end yet.",
              (double)http_request_count(server->http));
    add_tls(&text, server);
    add_value(&text, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    if (text.has_failed) {
        mem_free(text.bytes);
        return NULL;
    }
    *ret_length = text.length;
    return text.bytes;
}
