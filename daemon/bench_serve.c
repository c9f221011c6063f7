/* A bounded load on a daemon of its own. The clients block on their sockets: each is a thread, as callers are. */
#include "daemon/bench_serve.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/bench_client.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/engine.h"

enum {
    LATENCIES_MAX = 1 << 14, /* that a client remembers */
    BODY_BYTES_MAX = 1024,
    OUTPUT_BYTES_MAX = 4096,
    REST_US = 10000, /* after which an idle daemon's threads sleep */
};

struct client {
    const struct bench_serve_options *options;
    int port;
    _Atomic bool *is_over;
    size_t requests;
    size_t errors;
    size_t characters;
    double *latencies_ms;
    char *reply;
};

/* ---- the clients ---- */

/* The characters of a completion, or 0 when it is none. */
static size_t characters_of(const char *body)
{
    json_t *json = json_loads(body, 0, NULL);
    const char *text = json_string_value(json_object_get(json_array_get(json_object_get(json, "choices"), 0), "text"));
    size_t count = text ? utf8_count(text, strlen(text)) : 0;
    json_decref(json);
    return count;
}

/* Asks once. Returns the reply's status, 0 when the connection is broken, and when what is measured was there. */
static int ask_for_text(struct client *client, int connection, uint64_t *ret_ended_ns)
{
    char body[BODY_BYTES_MAX];
    const char *reply_body = NULL;
    snprintf(body, sizeof body, "{\"model\":\"bench\",\"prompt\":\"%s\",\"max_tokens\":%zu,\"temperature\":0.8}",
             client->options->prompt, client->options->tokens);
    bool is_sent = bench_client_send(connection, "/v1/completions", body);
    int status = is_sent ? bench_client_read(connection, client->reply, &reply_body) : 0;
    client->characters += status == 200 ? characters_of(reply_body) : 0;
    *ret_ended_ns = clock_now_ns();
    return status;
}

static int ask_for_first_byte(struct client *client, int connection, uint64_t *ret_ended_ns)
{
    char body[BODY_BYTES_MAX];
    snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"max_tokens\":%zu,\"temperature\":0.8,\"stream\":true}",
             client->options->prompt, client->options->tokens);
    bool is_sent = bench_client_send(connection, "/v1/models/bench/generate", body);
    int status = is_sent ? bench_client_read_chunks(connection, client->reply, ret_ended_ns) : 0;
    usleep(REST_US);
    return status;
}

static int ask_for_run(struct client *client, int connection, uint64_t *ret_ended_ns)
{
    const char *reply_body = NULL;
    bool is_sent = bench_client_send(connection, "/v1/models/bench/graph/run", "{\"fetches\":[\"nothing:0\"]}");
    int status = is_sent ? bench_client_read(connection, client->reply, &reply_body) : 0;
    *ret_ended_ns = clock_now_ns();
    return status;
}

static int (*const ASK[])(struct client *client, int connection, uint64_t *ret_ended_ns) = {
    [BENCH_LOAD_TEXT] = ask_for_text,
    [BENCH_LOAD_FIRST_BYTE] = ask_for_first_byte,
    [BENCH_LOAD_RUN] = ask_for_run,
};

/* Asks once at least, however short the time and late the thread. */
static void *client_main(void *argument)
{
    struct client *client = argument;
    int connection = bench_client_connect(client->port);
    bool is_broken = connection < 0;
    while (!is_broken && (client->requests == 0 || !atomic_load(client->is_over))) {
        uint64_t began_ns = clock_now_ns(), ended_ns;
        int status = ASK[client->options->load](client, connection, &ended_ns);
        is_broken = status == 0;
        if (!is_broken) {
            client->errors += status != 200;
            client->latencies_ms[client->requests % LATENCIES_MAX] = (double)(ended_ns - began_ns) * 1e-6;
            client->requests++;
        }
    }
    client->errors += is_broken;
    if (connection >= 0) {
        close(connection);
    }
    return NULL;
}

/* ---- the daemon ---- */

struct child {
    pid_t process;
    int output;
    int port;
};

static void become_daemon(const struct bench_serve_options *options, int output)
{
    char config[4096];
    snprintf(config, sizeof config, "%s/lstmd.conf", options->models_directory);
    FILE *file = fopen(config, "w");
    if (file != NULL) {
        /* all ask with the same prompt, which is to be read each time */
        fprintf(file, "threads = %zu\nlog_level = warning\nprompt_cache_bytes_max = 0\n", options->threads);
        fclose(file);
    }
    dup2(output, STDOUT_FILENO);
    execl("/proc/self/exe", "lstmd", "serve", "--config", config, "--models", options->models_directory, "--listen",
          "127.0.0.1:0", (char *)NULL);
    _exit(127);
}

/* Reads the daemon's output until it says which port it has. */
static enum status read_port(struct child *child, struct error *error)
{
    static const char marker[] = "127.0.0.1:";
    char output[OUTPUT_BYTES_MAX] = "";
    size_t length = 0;
    while (length + 1 < sizeof output) {
        ssize_t got = read(child->output, output + length, sizeof output - 1 - length);
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
        output[length] = '\0';
        const char *port = strstr(output, marker);
        if (port && strchr(port, '\n')) {
            child->port = (int)strtol(port + strlen(marker), NULL, 10);
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_IO, "the daemon did not start: %.200s", output);
}

static enum status start_daemon(const struct bench_serve_options *options, struct child *child, struct error *error)
{
    int ends[2];
    int number = pipe(ends) == 0 ? 0 : errno;
    if (number != 0) {
        return error_set_errno(error, number, "make a pipe");
    }
    child->process = fork();
    number = errno;
    if (child->process == 0) {
        close(ends[0]);
        become_daemon(options, ends[1]);
    }
    close(ends[1]);
    child->output = ends[0];
    if (child->process < 0) {
        return error_set_errno(error, number, "start a process");
    }
    return read_port(child, error);
}

/* One request to the daemon, before the clients come. */
static enum status ask(const struct child *child, const char *path, const char *request, struct error *error)
{
    char *reply = mem_allocate(BENCH_REPLY_BYTES_MAX, 1);
    const char *body = "";
    int connection = reply ? bench_client_connect(child->port) : -1;
    int status = 0;
    if (connection >= 0 && bench_client_send(connection, path, request)) {
        status = bench_client_read(connection, reply, &body);
    }
    if (connection >= 0) {
        close(connection);
    }
    enum status result = STATUS_OK;
    if (status != 200) {
        result = error_set(error, STATUS_IO, "the daemon answered %s with %d: %.300s", path, status, body);
    }
    mem_free(reply);
    return result;
}

/* Asks it to end, reads what it still says, and waits. */
static void stop_daemon(struct child *child, struct rusage *ret_usage)
{
    char rest[OUTPUT_BYTES_MAX];
    if (child->process > 0) {
        kill(child->process, SIGTERM);
        while (read(child->output, rest, sizeof rest) > 0) {
        }
        wait4(child->process, NULL, 0, ret_usage);
    }
    close(child->output);
}

/* ---- the load ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status sum_up(struct client *clients, size_t count, double seconds, struct bench_serve_result *result,
                          struct error *error)
{
    size_t characters = 0;
    size_t latency_count = 0;
    double *latencies = mem_allocate(count * LATENCIES_MAX, sizeof *latencies);
    if (!latencies) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the latencies");
    }
    for (size_t i = 0; i < count; i++) {
        size_t known = clients[i].requests < LATENCIES_MAX ? clients[i].requests : LATENCIES_MAX;
        memcpy(latencies + latency_count, clients[i].latencies_ms, known * sizeof *latencies);
        latency_count += known;
        result->requests += clients[i].requests;
        result->errors += clients[i].errors;
        characters += clients[i].characters;
    }
    qsort(latencies, latency_count, sizeof *latencies, compare_doubles);
    if (latency_count > 0) {
        result->p50_ms = latencies[latency_count / 2];
        result->p99_ms = latencies[latency_count - 1 - latency_count / 100];
    }
    result->seconds = seconds;
    result->chars_per_s = (double)characters / seconds;
    mem_free(latencies);
    return STATUS_OK;
}

static enum status make_clients(const struct bench_serve_options *options, int port, _Atomic bool *is_over,
                                struct client *clients, struct error *error)
{
    for (size_t i = 0; i < options->clients; i++) {
        clients[i] = (struct client){.options = options, .port = port, .is_over = is_over};
        clients[i].latencies_ms = mem_allocate(LATENCIES_MAX, sizeof *clients[i].latencies_ms);
        clients[i].reply = mem_allocate(BENCH_REPLY_BYTES_MAX, 1);
        if (!clients[i].latencies_ms || !clients[i].reply) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu clients", options->clients);
        }
    }
    return STATUS_OK;
}

/* Lets all clients ask for `seconds`, then lets their last requests end. */
static enum status load(const struct bench_serve_options *options, struct client *clients, _Atomic bool *is_over,
                        struct bench_serve_result *result, struct error *error)
{
    pthread_t threads[BENCH_CLIENTS_MAX];
    size_t started = 0;
    int number = 0;
    uint64_t began_ns = clock_now_ns();
    while (started < options->clients && number == 0) {
        number = pthread_create(&threads[started], NULL, client_main, &clients[started]);
        started += number == 0;
    }
    struct timespec rest = {.tv_sec = (time_t)options->seconds,
                            .tv_nsec = (long)((options->seconds - (double)(time_t)options->seconds) * 1e9)};
    if (number == 0) {
        nanosleep(&rest, NULL); /* the measured time itself */
    }
    atomic_store(is_over, true);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (number != 0) {
        return error_set_errno(error, number, "start client %zu", started + 1);
    }
    return sum_up(clients, options->clients, (double)(clock_now_ns() - began_ns) * 1e-9, result, error);
}

enum status bench_serve(const struct bench_serve_options *options, struct bench_serve_result *ret_result,
                        struct error *error)
{
    struct child child = {.output = -1};
    struct bench_serve_result result = {.requests = 0};
    struct rusage usage = {.ru_maxrss = 0};
    _Atomic bool is_over = false;
    struct client *clients = mem_allocate(options->clients, sizeof *clients);
    if (!clients) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu clients", options->clients);
    }
    enum status status = start_daemon(options, &child, error);
    if (status == STATUS_OK) { /* answers when the model serves */
        char how[64];
        snprintf(how, sizeof how, "{\"precision\":\"%s\"}", rnn_precision_name(options->precision));
        status = ask(&child, "/v1/models/bench/load", how, error);
    }
    if (status == STATUS_OK && options->load == BENCH_LOAD_RUN) {
        status = ask(&child, "/v1/models/bench/graph/build",
                     "{\"program\":[{\"op\":\"constant\",\"value\":1.0,\"name\":\"nothing\"}]}", error);
    }
    if (status == STATUS_OK) {
        status = make_clients(options, child.port, &is_over, clients, error);
    }
    if (status == STATUS_OK) {
        status = load(options, clients, &is_over, &result, error);
    }
    stop_daemon(&child, &usage);
    for (size_t i = 0; i < options->clients; i++) {
        mem_free(clients[i].latencies_ms);
        mem_free(clients[i].reply);
    }
    mem_free(clients);
    if (status == STATUS_OK) {
        result.peak_rss_bytes = (size_t)usage.ru_maxrss * 1024;
        *ret_result = result;
    }
    return status;
}
