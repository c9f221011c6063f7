/* Generates one sentence with a batcher of its own, so that it needs nothing of the daemon but a snapshot. Thread:
 * loop, but for make_sentence (a run thread). Owns its job until it is printed. */
#include "daemon/first_sentence.h"

#include <pthread.h>

#include "daemon/log.h"
#include "daemon/registry.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { SENTENCE_BYTES_MAX = 512, SENTENCE_SYMBOLS_MAX = 300 };

static const char prompt[] = "Call me";

struct sentence {
    struct job job;
    struct server *server;
    struct snapshot *snapshot;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool has_ended; /* under lock */
    enum status status;
    struct error error;
    char text[SENTENCE_BYTES_MAX];
};

static void on_progress(void *context, struct generation **generations, size_t count)
{
    struct sentence *sentence = context;
    for (size_t i = 0; i < count; i++) {
        if (generation_progress(generations[i]).finish != FINISH_NONE) {
            pthread_mutex_lock(&sentence->lock);
            sentence->has_ended = true;
            pthread_cond_signal(&sentence->ended);
            pthread_mutex_unlock(&sentence->lock);
        }
        generation_unref(generations[i]);
    }
}

/* Cuts the text behind its first sentence, and makes one line of it. */
static void cut(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            *text = ' ';
        } else if (strchr(".!?", *text) != NULL) {
            text[1] = '\0';
        }
    }
}

static enum status generate(struct sentence *sentence, struct batcher *batcher, struct error *error)
{
    uint32_t symbols[sizeof prompt];
    size_t count;
    struct vocabulary *vocabulary = snapshot_vocabulary(sentence->snapshot);
    TRY(vocabulary_encode(vocabulary, prompt, strlen(prompt), UNKNOWN_SYMBOLS_REPLACE, symbols, &count, error));
    struct generation_options options = {.prompt = symbols,
                                         .prompt_count = count,
                                         .tokens_max = SENTENCE_SYMBOLS_MAX,
                                         .temperature = 0.7,
                                         .top_p = 1,
                                         .seed = 1};
    struct generation *generation;
    TRY(generation_create(snapshot_decode_plan(sentence->snapshot), vocabulary, &options, NULL, NULL, &generation,
                          error));
    enum status status = batcher_submit(batcher, generation, error);
    if (status == STATUS_OK) {
        pthread_mutex_lock(&sentence->lock);
        while (!sentence->has_ended) {
            pthread_cond_wait(&sentence->ended, &sentence->lock);
        }
        pthread_mutex_unlock(&sentence->lock);
        memcpy(sentence->text, prompt, strlen(prompt));
        generation_read(generation, sentence->text + strlen(prompt), SENTENCE_BYTES_MAX - sizeof prompt);
        cut(sentence->text);
    }
    generation_unref(generation);
    return status;
}

static void make_sentence(struct job *job)
{
    struct sentence *sentence = (struct sentence *)job; /* its first member */
    struct batcher_options options = {.threads = 1, .queue_max = 1, .on_progress = on_progress, .context = sentence};
    struct batcher *batcher;
    sentence->status = batcher_create(&options, &batcher, &sentence->error);
    if (sentence->status == STATUS_OK) {
        sentence->status = generate(sentence, batcher, &sentence->error);
        batcher_destroy(batcher);
    }
}

static void free_sentence(struct sentence *sentence)
{
    if (sentence->snapshot != NULL) {
        registry_release(sentence->server->registry, sentence->snapshot);
    }
    pthread_mutex_destroy(&sentence->lock);
    pthread_cond_destroy(&sentence->ended);
    mem_free(sentence);
}

static void print_sentence(struct job *job)
{
    struct sentence *sentence = (struct sentence *)job;
    if (sentence->status == STATUS_OK) {
        printf("\n  %s\n\n", sentence->text);
        fflush(stdout);
    } else {
        log_event(LOG_LEVEL_WARNING, "first_sentence_failed", sentence->error.message, "%s", "");
    }
    free_sentence(sentence);
}

void first_sentence_print(struct server *server, const char *model, const char *address)
{
    struct sentence *sentence = mem_allocate(1, sizeof *sentence);
    if (sentence == NULL) {
        return;
    }
    sentence->server = server;
    CHECK(pthread_mutex_init(&sentence->lock, NULL) == 0);
    CHECK(pthread_cond_init(&sentence->ended, NULL) == 0);
    sentence->job.run = make_sentence;
    sentence->job.done = print_sentence;
    enum status status = registry_resolve(server->registry, model, &sentence->snapshot, &sentence->error);
    if (status == STATUS_OK) {
        printf("\n  curl -N '%s/v1/models/%s/generate?prompt=Call%%20me'\n", address, model);
        fflush(stdout);
        status = workers_submit(server->run, &sentence->job, &sentence->error);
    }
    if (status != STATUS_OK) {
        log_event(LOG_LEVEL_WARNING, "first_sentence_failed", sentence->error.message, "model=%s", model);
        free_sentence(sentence);
    }
}
