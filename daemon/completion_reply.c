/* What a completion answers: one JSON object, server-sent events, or bare text. The shapes are OpenAI's, with `seed`
 * and `warnings` beside them. Thread: loop, run threads for long replies. Owns nothing; streams read from the
 * completion. */
#include "daemon/completion_private.h"

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { LOGPROBS_INLINE_MAX = 128, TEXT_BYTES_INLINE_MAX = 32 << 10 };

const char *completion_finish_name(const struct choice *choice)
{
    static const char *const names[] = {
        [FINISH_NONE] = "failed",         [FINISH_LENGTH] = "length",     [FINISH_STOP] = "stop",
        [FINISH_CANCELLED] = "cancelled", [FINISH_DEADLINE] = "deadline", [FINISH_FAILED] = "failed",
    };
    static_assert(sizeof names / sizeof *names == FINISH_REASON_COUNT, "one name for each reason");
    return choice->is_cut ? "length" : names[choice->finish];
}

/* What decides bit-equality: build, weights, kernels and with them the precision. */
static void make_fingerprint(struct completion *completion)
{
    const char *sum = NULL;
    json_t *manifest = (json_t *)(uintptr_t)snapshot_manifest(completion->snapshot); /* only read */
    json_unpack(manifest, "{s:{s:{s:s}}}", "files", "weights.safetensors", "sha256", &sum);
    struct engine_info info = engine_info();
    snprintf(completion->fingerprint, sizeof completion->fingerprint, "lstmd-%s+%.8s+%s", info.version,
             sum == NULL ? "unknown" : sum, snapshot_kernels(completion->snapshot));
}

/* ["unknown field 'x' was ignored"], or NULL when there is none. */
static json_t *make_warnings(const struct completion *completion)
{
    json_t *warnings = completion->fields.warning_count == 0 ? NULL : json_array();
    for (size_t i = 0; warnings != NULL && i < completion->fields.warning_count; i++) {
        const char *name = completion->fields.warnings[i];
        json_array_append_new(warnings, strlen(name) > 64 ? json_string("an unknown field with a long name was ignored")
                                                          : json_sprintf("unknown field '%s' was ignored", name));
    }
    return warnings;
}

static const char *object_name(const struct completion *completion)
{
    return completion->door != DOOR_CHAT   ? "text_completion"
           : completion->form == FORM_JSON ? "chat.completion"
                                           : "chat.completion.chunk";
}

/* What every object of a reply begins with. */
static json_t *make_envelope(const struct completion *completion)
{
    char id[COMPLETION_ID_BYTES_MAX];
    completion_id(completion, id);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I}", "id", id, "object", object_name(completion), "created",
                     (json_int_t)completion->created, "model", completion->model, "system_fingerprint",
                     completion->fingerprint, "seed", (json_int_t)completion->seed);
}

static json_t *make_choice(struct choice *choice, const char *text, size_t length)
{
    json_t *logprobs = choice->logprobs == NULL ? json_null() : choice->logprobs;
    choice->logprobs = NULL;
    const char *finish = choice->finish == FINISH_NONE || length > 0 ? NULL : completion_finish_name(choice);
    finish = choice->completion->form == FORM_JSON ? completion_finish_name(choice) : finish;
    json_t *object = choice->completion->door == DOOR_CHAT
                         ? completion_chat_choice(choice, text, length, logprobs, finish)
                         : json_pack("{s:i, s:s%, s:o, s:s?}", "index", (int)choice->index, "text", text, length,
                                     "logprobs", logprobs, "finish_reason", finish);
    if (finish != NULL && !completion_show_state(choice, object)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *make_usage(const struct completion *completion)
{
    size_t prompt_count = 0, token_count = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        prompt_count += i % (size_t)completion->fields.best_of == 0 ? choice->prompt_count : 0;
        token_count += choice->token_count;
    }
    json_t *usage =
        json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)prompt_count, "completion_tokens",
                  (json_int_t)token_count, "total_tokens", (json_int_t)prompt_count + (json_int_t)token_count);
    if (!completion_show_cached(completion, usage)) {
        json_decref(usage);
        return NULL;
    }
    return usage;
}

static void add_headers(struct completion *completion)
{
    char seed[32];
    make_fingerprint(completion);
    snprintf(seed, sizeof seed, "%lld", (long long)completion->seed);
    request_add_header(completion->request, "X-Lstmd-Model", completion->model);
    request_add_header(completion->request, "X-Lstmd-Seed", seed);
    request_add_header(completion->request, "Cache-Control", "no-store");
}

/* The mean log-probability of what a choice made. */
static double mean_logprob(const struct choice *choice)
{
    size_t count;
    const struct symbol_logprob *entries = generation_logprobs(choice->scored, &count);
    size_t begin = choice->completion->fields.echo ? choice->prompt_count : 0;
    double sum = 0;
    for (size_t i = begin; i < count; i++) {
        sum += (double)entries[i].logprob;
    }
    return count > begin ? sum / (double)(count - begin) : 0;
}

/* The likeliest of a prompt's choices that is not told yet; where all are told, the next. */
static struct choice *find_next(struct choice *choices, const struct generate_request *fields)
{
    struct choice *found = NULL;
    double best = 0;
    for (size_t i = 0; i < (size_t)fields->best_of; i++) {
        double mean = choices[i].is_told || fields->best_of == fields->n ? 0 : mean_logprob(&choices[i]);
        if (!choices[i].is_told && (found == NULL || mean > best)) {
            found = &choices[i];
            best = mean;
        }
    }
    return found;
}

/* NULL without memory, or when a choice failed. */
static json_t *make_choices(struct completion *completion)
{
    const struct generate_request *fields = &completion->fields;
    json_t *list = json_array();
    for (size_t i = 0; i < fields->prompt_count * (size_t)fields->n; i++) {
        struct choice *choice =
            find_next(&completion->choices[i / (size_t)fields->n * (size_t)fields->best_of], fields);
        choice->is_told = true;
        choice->index = i;
        completion_take_logprobs(choice, choice->finish);
        json_t *made = make_choice(choice, choice->text == NULL ? "" : choice->text, choice->text_length);
        if (choice->failure.status != STATUS_OK || json_array_append_new(list, made) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* NULL without memory, or when a choice failed. */
static json_t *make_body(struct completion *completion)
{
    json_t *body = make_envelope(completion);
    json_t *warnings = make_warnings(completion);
    bool is_whole = body != NULL && json_object_set_new(body, "choices", make_choices(completion)) == 0 &&
                    json_object_set_new(body, "usage", make_usage(completion)) == 0 &&
                    (warnings == NULL || json_object_set(body, "warnings", warnings) == 0);
    json_decref(warnings);
    if (!is_whole) {
        json_decref(body);
        return NULL;
    }
    return completion->door == DOOR_OIP ? completion_oip_reply(completion, body) : body;
}

static void write_reply(struct job *job)
{
    struct completion *completion = (struct completion *)job; /* its first member */
    completion->pending_length = 0;
    json_t *body = completion->door == DOOR_SCORE ? completion_score_reply(completion) : make_body(completion);
    completion->pending = http_json_bytes(body, &completion->pending_length);
}

static const struct choice *find_failed(const struct completion *completion)
{
    for (size_t i = 0; i < completion->choice_count; i++) {
        if (completion->choices[i].failure.status != STATUS_OK) {
            return &completion->choices[i];
        }
    }
    return NULL;
}

static void send_reply(struct completion *completion)
{
    const struct choice *failed = find_failed(completion);
    if (failed != NULL) {
        request_reply_error(completion->request, &failed->failure);
    } else {
        request_reply_json_bytes(completion->request, 200, completion->pending, completion->pending_length);
        completion->pending = NULL;
    }
}

static void on_reply_written(struct job *job)
{
    struct completion *completion = (struct completion *)job;
    completion->is_in_job = false;
    if (!completion->is_abandoned) {
        send_reply(completion);
    }
    completion_close_if_over(completion);
}

/* Long replies are made on a run thread. */
static bool is_long(const struct completion *completion)
{
    size_t symbol_count = 0;
    size_t byte_count = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        size_t count = 0;
        if (choice->scored != NULL) {
            generation_logprobs(choice->scored, &count);
        }
        symbol_count += completion->door == DOOR_SCORE ? choice->prompt_count : count;
        byte_count += choice->text_length;
    }
    return symbol_count > LOGPROBS_INLINE_MAX || byte_count > TEXT_BYTES_INLINE_MAX;
}

void completion_reply_whole(struct completion *completion)
{
    if (completion->door == DOOR_SCORE) {
        completion_score_check(completion);
    }
    if (find_failed(completion) != NULL) {
        send_reply(completion);
        return;
    }
    add_headers(completion);
    if (!is_long(completion)) {
        write_reply(&completion->job);
        send_reply(completion);
        return;
    }
    completion->job.run = write_reply;
    completion->job.done = on_reply_written;
    completion->is_in_job = true;
    workers_submit_always(completion->owner->server->run, &completion->job);
}

/* ---- Streams */

enum { EVENT_BYTES_MAX = 8 << 20 };
enum made { MADE_SOMETHING, MADE_NOTHING, MADE_END, MADE_FAILURE };

static const char EVENT_BEFORE[] = "data: ", EVENT_AFTER[] = "\n\n";
enum { EVENT_FRAME_BYTES = sizeof EVENT_BEFORE + sizeof EVENT_AFTER - 2 };

/* Writes the object as an event, as far as there is room. Returns its length; 0: it has none. */
static size_t write_event(const json_t *object, char *place, size_t room)
{
    size_t length = json_dumpb(object, place + sizeof EVENT_BEFORE - 1, room - EVENT_FRAME_BYTES, JSON_COMPACT);
    if (length > 0 && length + EVENT_FRAME_BYTES <= room) {
        memcpy(place, EVENT_BEFORE, sizeof EVENT_BEFORE - 1);
        memcpy(place + sizeof EVENT_BEFORE - 1 + length, EVENT_AFTER, sizeof EVENT_AFTER - 1);
    }
    return length == 0 ? 0 : length + EVENT_FRAME_BYTES;
}

/* An event that is no piece: logprobs name up to six symbols for each in the text, each as long as symbols can be. */
static enum made make_long_event(struct completion *completion, const json_t *object, size_t length)
{
    completion->pending = length <= EVENT_BYTES_MAX ? mem_allocate(length, 1) : NULL;
    if (completion->pending == NULL) {
        return MADE_FAILURE;
    }
    completion->pending_offset = 0;
    completion->pending_length = write_event(object, completion->pending, length);
    return MADE_SOMETHING;
}

/* Makes the object the next event; takes its reference. */
static enum made make_event(struct completion *completion, json_t *object)
{
    struct completions *owner = completion->owner;
    size_t length = object == NULL ? 0 : write_event(object, owner->piece, COMPLETION_PIECE_BYTES_MAX);
    enum made made = length == 0                            ? MADE_FAILURE
                     : length <= COMPLETION_PIECE_BYTES_MAX ? MADE_SOMETHING
                                                            : make_long_event(completion, object, length);
    owner->piece_length = length;
    json_decref(object);
    return made;
}

static enum made make_line(struct completion *completion, const char *line)
{
    completion->owner->piece_length = strlen(line);
    memcpy(completion->owner->piece, line, completion->owner->piece_length);
    return MADE_SOMETHING;
}

static enum made make_chunk(struct completion *completion, json_t *choices)
{
    json_t *chunk = make_envelope(completion);
    json_object_set_new(chunk, "choices", choices);
    if (completion->fields.include_usage) {
        json_object_set_new(chunk, "usage", json_null());
    }
    if (!completion->is_first_sent) {
        completion->is_first_sent = true;
        json_t *warnings = make_warnings(completion);
        if (warnings != NULL) {
            json_object_set_new(chunk, "warnings", warnings);
        }
    }
    return make_event(completion, completion->door == DOOR_OIP ? completion_oip_reply(completion, chunk) : chunk);
}

/* The next piece of one choice: text, or its end. */
static enum made make_choice_event(struct choice *choice)
{
    struct completion *completion = choice->completion;
    char bytes[GENERATION_RING_BYTES];
    size_t length = completion_read_choice(choice, bytes);
    choice->shown_bytes += length;
    completion_take_logprobs(choice, FINISH_NONE);
    if (length == 0 && (choice->finish == FINISH_NONE || choice->is_finish_sent)) {
        return MADE_NOTHING;
    }
    if (length == 0) {
        choice->is_finish_sent = true;
        if (choice->finish == FINISH_FAILED) {
            json_t *error = completion->door == DOOR_OIP
                                ? json_string(choice->failure.message)
                                : error_to_json(&choice->failure, error_http_status(&choice->failure));
            return make_event(completion, json_pack("{s:o}", "error", error));
        }
    }
    return make_chunk(completion, json_pack("[o]", make_choice(choice, bytes, length)));
}

static enum made make_next_event(struct completion *completion, bool wants_ping)
{
    size_t sent_count = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        struct choice *choice = &completion->choices[completion->turn];
        completion->turn = (completion->turn + 1) % completion->choice_count;
        enum made made = make_choice_event(choice);
        if (made != MADE_NOTHING) {
            return made;
        }
        sent_count += choice->is_finish_sent;
    }
    if (sent_count < completion->choice_count) {
        return wants_ping ? make_line(completion, ": ping\n\n") : MADE_NOTHING;
    }
    if (completion->fields.include_usage && !completion->is_usage_sent && completion->door != DOOR_OIP) {
        completion->is_usage_sent = true;
        json_t *chunk = make_envelope(completion);
        json_object_set_new(chunk, "choices", json_array());
        json_object_set_new(chunk, "usage", make_usage(completion));
        return make_event(completion, chunk);
    }
    if (!completion->is_done_sent && completion->door != DOOR_OIP) {
        completion->is_done_sent = true;
        return make_line(completion, "data: [DONE]\n\n");
    }
    return MADE_END;
}

static enum made make_next_text(struct completion *completion)
{
    struct choice *choice = &completion->choices[0];
    completion->owner->piece_length = completion_read_choice(choice, completion->owner->piece);
    if (completion->owner->piece_length > 0) {
        return MADE_SOMETHING;
    }
    return choice->finish == FINISH_NONE ? MADE_NOTHING : choice->finish == FINISH_FAILED ? MADE_FAILURE : MADE_END;
}

static size_t read_pending(struct completion *completion, char *bytes, size_t bytes_max)
{
    size_t left = completion->pending_length - completion->pending_offset;
    size_t length = left < bytes_max ? left : bytes_max;
    memcpy(bytes, completion->pending + completion->pending_offset, length);
    completion->pending_offset += length;
    if (length == left) {
        mem_free(completion->pending);
        completion->pending = NULL;
    }
    return length;
}

/* Gives the stream the piece that was made, and keeps what it has no room for. False without memory. */
static bool read_piece(struct completion *completion, char *bytes, size_t bytes_max, size_t *ret_length)
{
    const char *piece = completion->owner->piece;
    size_t piece_length = completion->owner->piece_length;
    *ret_length = piece_length < bytes_max ? piece_length : bytes_max;
    memcpy(bytes, piece, *ret_length);
    completion->pending_offset = 0;
    completion->pending_length = piece_length - *ret_length;
    if (completion->pending_length == 0) {
        return true;
    }
    completion->pending = mem_allocate(completion->pending_length, 1);
    if (completion->pending == NULL) {
        return false;
    }
    memcpy(completion->pending, piece + *ret_length, completion->pending_length);
    return true;
}

/* Whether a stream that took a piece has more to take at once: the rest of what was cut, another choice's text, or an
 * end. What came since waits for its time: a stream that found some symbol whenever it was asked would send each by
 * itself, and never rest. */
static bool has_more(const struct completion *completion)
{
    size_t open_count = 0;
    for (size_t i = 0; i < completion->choice_count; i++) {
        const struct choice *choice = &completion->choices[i];
        if (choice->generation == NULL) {
            continue;
        }
        if (choice->has_rest || generation_progress(choice->generation).finish != FINISH_NONE) {
            return true;
        }
        open_count++;
    }
    return open_count == 0 || completion->taken_pieces < open_count;
}

static void time_rest(struct completion *completion)
{
    for (size_t i = 0; i < completion->choice_count; i++) {
        if (completion->choices[i].generation != NULL) {
            completion_time_rest(completion, &completion->choices[i]);
        }
    }
}

static size_t on_read(void *context, char *bytes, size_t bytes_max, enum stream_state *ret_state)
{
    struct completion *completion = context;
    if (completion->pending != NULL) {
        completion->written_ms = clock_now_ms();
        return read_pending(completion, bytes, bytes_max);
    }
    bool wants_ping = completion->wants_ping && completion->form != FORM_TEXT;
    completion->wants_ping = false;
    if (!completion->is_due && !wants_ping) {
        *ret_state = STREAM_WAITS;
        return 0;
    }
    enum made made = !completion->is_due             ? make_line(completion, ": ping\n\n")
                     : completion->form == FORM_TEXT ? make_next_text(completion)
                                                     : make_next_event(completion, wants_ping);
    size_t length = 0;
    if (completion->pending != NULL) {
        length = read_pending(completion, bytes, bytes_max);
    } else if (made == MADE_SOMETHING && !read_piece(completion, bytes, bytes_max, &length)) {
        made = MADE_FAILURE;
    }
    completion->taken_pieces++;
    completion->is_due = completion->is_due && made == MADE_SOMETHING && has_more(completion);
    if (!completion->is_due) {
        time_rest(completion);
    }
    if (made != MADE_SOMETHING) {
        *ret_state = made == MADE_END ? STREAM_ENDS : made == MADE_FAILURE ? STREAM_FAILS : STREAM_WAITS;
        return 0;
    }
    completion->written_ms = clock_now_ms();
    return length;
}

static void on_release(void *context)
{
    completion_on_stream_released(context);
}

void completion_reply_stream(struct completion *completion)
{
    static const struct stream_source source = {.read = on_read, .release = on_release};
    completion->is_started = true;
    completion->is_due = true;
    add_headers(completion);
    request_add_header(completion->request, "X-Accel-Buffering", "no");
    const char *type = completion->form == FORM_TEXT ? "text/plain; charset=utf-8" : "text/event-stream";
    request_reply_stream(completion->request, 200, type, &source, completion);
}
