/* A model's vocabulary as lm-eval's remote tokenizer asks for it: symbols of a text, the text of symbols, the symbol
 * that ends a line. Thread: loop; large bodies on run threads. Owns its calls. */
#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/generate_request.h"
#include "daemon/registry.h"
#include "daemon/request_fields.h"
#include "daemon/routes.h"
#include "engine/base/mem.h"

struct tokenizer_call {
    struct job job; /* first */
    struct server *server;
    struct request *request; /* held */
    bool is_text_wanted;     /* /detokenize */
    bool is_info_wanted;     /* /tokenizer_info */
    bool has_waited;         /* for its model to be loaded */
    bool is_large;
    size_t text_bytes_max; /* of a reply */
    json_t *object;
    struct generate_request fields; /* borrow from `object` and `unknown` */
    json_t *unknown;                /* the model's setting */
    struct snapshot *snapshot;
    enum status status;
    struct error error;
    char *reply; /* made */
    size_t reply_length;
};

static void end(struct tokenizer_call *call)
{
    if (call->snapshot != NULL) {
        registry_release(call->server->registry, call->snapshot);
    }
    json_decref(call->object);
    json_decref(call->unknown);
    request_release(call->request);
    mem_free(call);
}

static void refuse(struct tokenizer_call *call, const struct error *error)
{
    request_reply_error(call->request, error);
    end(call);
}

/* Runs `run`, then `done`: here, or for a large body on a run thread. */
static void do_job(struct tokenizer_call *call, void (*run)(struct job *job), void (*done)(struct job *job))
{
    struct error error;
    call->job.run = run;
    call->job.done = done;
    if (!call->is_large) {
        run(&call->job);
        done(&call->job);
    } else if (workers_submit(call->server->run, &call->job, &error) != STATUS_OK) {
        refuse(call, &error);
    }
}

/* ---- The two ways */

/* As for a prompt: a reply takes a multiple of what asked for it. */
static enum status check_count(const char *field, size_t count, struct error *error)
{
    if (count <= GENERATION_PROMPT_SYMBOLS_MAX) {
        return STATUS_OK;
    }
    error_set(error, STATUS_TOO_LARGE, "%s has %zu symbols, at most %d", field, count, GENERATION_PROMPT_SYMBOLS_MAX);
    snprintf(error->param, sizeof error->param, "%s", field);
    return STATUS_TOO_LARGE;
}

static json_t *make_tokens(const uint32_t *symbols, size_t count)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < count; i++) {
        if (json_array_append_new(tokens, json_integer((json_int_t)symbols[i])) != 0) {
            json_decref(tokens);
            return NULL;
        }
    }
    return json_pack("{s:o, s:I}", "tokens", tokens, "count", (json_int_t)count);
}

static enum status tokenize(const struct tokenizer_call *call, json_t **ret_reply, struct error *error)
{
    struct generate_prompt prompt = generate_request_prompt(&call->fields, 0);
    uint32_t *symbols = mem_allocate(prompt.length, sizeof *symbols);
    size_t count;
    if (symbols == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the symbols of %zu bytes", prompt.length);
    }
    enum status status = vocabulary_encode(snapshot_vocabulary(call->snapshot), prompt.text, prompt.length,
                                           call->fields.unknown_symbols, symbols, &count, error);
    if (status != STATUS_OK) {
        snprintf(error->param, sizeof error->param, "prompt");
    } else if ((status = check_count("prompt", count, error)) == STATUS_OK) {
        *ret_reply = make_tokens(symbols, count);
    }
    mem_free(symbols);
    return status;
}

/* What a symbol writes behind others; of bytes what has become certain. */
static size_t write_symbol(const struct vocabulary *vocabulary, uint32_t symbol, struct text_position *position,
                           struct utf8_assembler *assembler, char text[GENERATION_SYMBOL_BYTES_MAX])
{
    size_t length = generation_spell(vocabulary, symbol, *position, text);
    position->is_line_begun = length == 1 && text[0] == '\n';
    return vocabulary_kind(vocabulary) == VOCABULARY_BYTES
               ? utf8_assembler_push(assembler, (unsigned char)text[0], text)
               : length;
}

/* What is to become a text; NULL: nothing. */
static const json_t *symbols_of(const struct tokenizer_call *call)
{
    return call->fields.prompt_count == 0 ? NULL : generate_request_prompt(&call->fields, 0).symbols;
}

/* The text of symbols, or with NULL only its length. INVALID names a symbol that is none. */
static enum status spell(const struct tokenizer_call *call, char *text, size_t *ret_length, struct error *error)
{
    const struct vocabulary *vocabulary = snapshot_vocabulary(call->snapshot);
    struct text_position position = {.is_line_begun = true};
    struct utf8_assembler assembler = {.pending_count = 0};
    size_t index, length = 0;
    json_t *value;
    json_array_foreach(symbols_of(call), index, value)
    {
        char written[GENERATION_SYMBOL_BYTES_MAX];
        json_int_t symbol = json_integer_value(value);
        if ((size_t)symbol >= vocabulary_size(vocabulary)) {
            error_set(error, STATUS_INVALID, "token %zu is %lld, the vocabulary has %zu", index, (long long)symbol,
                      vocabulary_size(vocabulary));
            snprintf(error->param, sizeof error->param, "tokens");
            return STATUS_INVALID;
        }
        size_t count = write_symbol(vocabulary, (uint32_t)symbol, &position, &assembler, written);
        if (text != NULL) {
            memcpy(text + length, written, count);
        }
        length += count;
    }
    *ret_length = length;
    return STATUS_OK;
}

static enum status detokenize(const struct tokenizer_call *call, json_t **ret_reply, struct error *error)
{
    size_t length;
    TRY(check_count("tokens", json_array_size(symbols_of(call)), error));
    TRY(spell(call, NULL, &length, error));
    if (length > call->text_bytes_max) {
        return error_set(error, STATUS_TOO_LARGE, "the text has %zu bytes, at most %zu (reply_bytes_max)", length,
                         call->text_bytes_max);
    }
    char *text = mem_allocate(length + 1, 1);
    if (text == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a text of %zu bytes", length);
    }
    enum status status = spell(call, text, &length, error);
    if (status == STATUS_OK) {
        *ret_reply = json_pack("{s:s%}", "prompt", text, length);
    }
    mem_free(text);
    return status;
}

/* ---- One call */

static void work(struct job *job)
{
    struct tokenizer_call *call = (struct tokenizer_call *)job;
    json_t *reply = NULL;
    call->status = call->is_text_wanted ? detokenize(call, &reply, &call->error) : tokenize(call, &reply, &call->error);
    if (call->status == STATUS_OK) {
        call->reply = http_json_bytes(reply, &call->reply_length);
    }
}

static void on_worked(struct job *job)
{
    struct tokenizer_call *call = (struct tokenizer_call *)job;
    if (call->status != STATUS_OK) {
        refuse(call, &call->error);
        return;
    }
    request_reply_json_bytes(call->request, 200, call->reply, call->reply_length);
    end(call);
}

static void refuse_field(struct tokenizer_call *call, const char *field)
{
    call->status = error_set(&call->error, STATUS_INVALID, "%s must be a %s", field,
                             call->is_text_wanted ? "list of symbol numbers" : "string");
    snprintf(call->error.param, sizeof call->error.param, "%s", field);
}

/* The fields of a completion: `tokens` is a prompt of symbols. */
static void parse(struct job *job)
{
    struct tokenizer_call *call = (struct tokenizer_call *)job;
    const char *field = call->is_text_wanted ? "tokens" : "prompt";
    size_t length;
    const char *body = request_body(call->request, &length);
    call->status = fields_parse(body, length, &call->object, &call->error);
    json_t *value = call->status == STATUS_OK ? json_object_get(call->object, field) : NULL;
    bool is_good = call->is_text_wanted ? json_is_array(value) && !json_is_string(json_array_get(value, 0)) &&
                                              !json_is_array(json_array_get(value, 0))
                                        : json_is_string(value);
    if (call->status == STATUS_OK && !is_good) {
        refuse_field(call, field);
    }
    if (call->status == STATUS_OK && call->is_text_wanted) {
        if (json_array_size(value) > 0) {
            json_object_set(call->object, "prompt", value);
        } else {
            json_object_del(call->object, "prompt"); /* there is none: an empty text */
        }
        json_object_del(call->object, "tokens");
    }
    if (call->status == STATUS_OK) {
        call->status = generate_request_read(&call->fields, call->object, DOOR_COMPLETIONS, &call->error);
    }
    if (call->status != STATUS_OK && strcmp(call->error.param, "prompt") == 0) {
        refuse_field(call, field);
    }
}

/* lm-eval wants an end-of-text token that becomes at least one symbol: a line's end, or what there is. */
static json_t *end_token(const struct vocabulary *vocabulary)
{
    size_t length;
    const char *text = vocabulary_symbol(vocabulary, 0, &length);
    json_t *token = vocabulary_end_of_line(vocabulary) != SYMBOL_NONE ? json_string("\n") : json_stringn(text, length);
    return token == NULL ? json_null() : token; /* half a character */
}

static void reply_info(struct tokenizer_call *call)
{
    const struct snapshot *snapshot = call->snapshot;
    const struct vocabulary *vocabulary = snapshot_vocabulary(snapshot);
    const json_t *template = registry_setting(call->server->registry, snapshot_model_name(snapshot), "chat_template");
    request_reply_json(call->request, 200,
                       json_pack("{s:s, s:s, s:I, s:o, s:o, s:n, s:O?}", "model", snapshot_full_name(snapshot), "kind",
                                 vocabulary_kind_name(vocabulary_kind(vocabulary)), "vocab_size",
                                 (json_int_t)vocabulary_size(vocabulary), "eos_token", end_token(vocabulary),
                                 "bos_token", end_token(vocabulary), "pad_token", "chat_template", template));
    end(call);
}

static void on_parsed(struct job *job);

/* How the load went, looking for the model again tells; or nobody waits for it any longer. */
static void on_loaded(void *context, const struct registry_reply *reply)
{
    struct tokenizer_call *call = context;
    json_decref(reply->reply);
    call->status = reply->status;
    call->error = reply->error;
    on_parsed(&call->job);
}

static void on_parsed(struct job *job)
{
    struct tokenizer_call *call = (struct tokenizer_call *)job;
    struct registry *registry = call->server->registry;
    const struct caller *caller = request_caller(call->request);
    enum status status = call->status;
    if (status == STATUS_OK) {
        status = caller_resolve(registry, caller, call->fields.model, &call->snapshot, &call->error);
    }
    if (status == STATUS_UNAVAILABLE &&
        registry_wait_for_loads(registry, call->fields.model, api_deadline_ms(call->server, call->request),
                                &call->error, &call->has_waited,
                                (struct registry_callback){.done = on_loaded, .context = call})) {
        return;
    }
    if (status == STATUS_OK && call->is_info_wanted) {
        reply_info(call);
        return;
    }
    if (status == STATUS_OK) {
        const char *model = snapshot_model_name(call->snapshot);
        call->unknown = json_deep_copy(registry_setting(registry, model, "unknown_symbols"));
        status = generate_request_default(&call->fields, "unknown_symbols", call->unknown, &call->error);
    }
    if (status != STATUS_OK) {
        refuse(call, &call->error);
        return;
    }
    do_job(call, work, on_worked);
}

/* A call, its request held; NULL: it has been answered. */
static struct tokenizer_call *begin(struct server *server, struct request *request)
{
    struct tokenizer_call *call = mem_allocate(1, sizeof *call);
    if (call == NULL) {
        request_reply_json(request, 503, NULL);
        return NULL;
    }
    call->server = server;
    call->request = request;
    call->text_bytes_max = (size_t)server->settings.reply_bytes_max;
    request_hold(request, NULL, NULL);
    return call;
}

static void start(struct server *server, struct request *request, bool is_text_wanted)
{
    struct tokenizer_call *call = begin(server, request);
    size_t length;
    if (call != NULL) {
        request_body(request, &length);
        call->is_text_wanted = is_text_wanted;
        call->is_large = length > FIELDS_INLINE_BYTES_MAX;
        do_job(call, parse, on_parsed);
    }
}

void api_tokenize(struct server *server, struct request *request)
{
    start(server, request, false);
}

void api_detokenize(struct server *server, struct request *request)
{
    start(server, request, true);
}

void api_tokenizer_info(struct server *server, struct request *request)
{
    struct tokenizer_call *call = begin(server, request);
    if (call != NULL) {
        call->is_info_wanted = true;
        call->status = request_only_query(request, "model", &call->error);
        call->fields.model = request_query(request, "model");
        on_parsed(&call->job);
    }
}
