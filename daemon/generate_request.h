/* What a caller asks for when it wants text: one struct, read by one table of fields from a JSON body (POST
 * /v1/completions, POST …/generate) or from query parameters (GET …/generate).
 *
 * Fields that no recurrent model can do are refused by name (UNSUPPORTED) unless their value changes nothing (null, an
 * empty text). Unknown fields are refused on lstmd's
 * own routes; on /v1/completions, which foreign clients speak, they are named in `warnings`. Thread: any. Texts are
 * borrowed from the JSON object. */
#ifndef DAEMON_GENERATE_REQUEST_H
#define DAEMON_GENERATE_REQUEST_H

#include "daemon/http.h"
#include "engine/engine.h"

enum {
    GENERATE_PROMPTS_MAX = 1024,
    GENERATE_WARNINGS_MAX = 16,
    GENERATE_FLUSH_MS_MAX = 60000,
};

enum generate_door {
    DOOR_COMPLETIONS, /* OpenAI's: 16 symbols, unknown fields are warned of */
    DOOR_CHAT,        /* OpenAI's, too: a template is laid over messages (completion_chat.c); 500 symbols */
    DOOR_GENERATE,    /* lstmd's own: 500 symbols, unknown fields are refused */
    DOOR_OIP,         /* Triton's generate: "text_input" and "parameters" (completion_oip.c); 20 symbols */
    DOOR_SCORE,       /* lstmd's own: no text, but how likely prompts are (completion_score.c) */
    DOOR_COUNT,
};

/* Text, or symbols by number. */
struct generate_prompt {
    const char *text; /* NULL: `symbols`, an array of integers */
    size_t length;
    const json_t *symbols;
};

struct generate_request {
    const char *model;             /* NULL: the default */
    struct generate_prompt prompt; /* where there is one */
    const json_t *prompts;         /* checked, where there are several: generate_request_prompt */
    size_t prompt_count;           /* 0: the model's start text */
    size_t prompt_bytes;           /* of all, symbols counted as 4 */
    int64_t max_tokens;
    int64_t n;
    int64_t best_of; /* texts made for each prompt, of which the n likeliest are told; n where nobody said */
    int64_t seed;
    int64_t top_k;
    int64_t deadline_ms;
    int64_t flush_ms;
    double temperature;
    int64_t min_tokens;
    int64_t repetition_window;
    int64_t priority;
    double top_p;
    double min_p;
    double typical_p;
    double repetition_penalty;
    double frequency_penalty;
    double presence_penalty;
    const json_t *logit_bias; /* checked; NULL: none */
    const char *stop[STOP_STRINGS_MAX];
    size_t stop_lengths[STOP_STRINGS_MAX];
    size_t stop_count;
    const char *pattern; /* what the text matches; NULL: anything */
    size_t pattern_length;
    enum unknown_symbols unknown_symbols;
    int64_t logprobs;     /* of how many symbols beside each */
    bool use_beam_search; /* of width best_of */
    bool stream;
    bool echo;
    bool include_usage;
    const char *session; /* NULL: none */
    bool session_start;
    bool adapts; /* its session's copy of these learns */
    enum adaptation_weights adapted;
    const char *state; /* base64; NULL: none */
    size_t state_length;
    bool return_state;
    uint64_t given;                              /* a bit for each row of the table that the caller set */
    const char *warnings[GENERATE_WARNINGS_MAX]; /* names of unknown fields */
    size_t warning_count;
};

/* Defaults, then the object's fields. INVALID names the field and its bounds, code "unknown_field" for unknown ones;
 * UNSUPPORTED, code "unsupported_parameter". `error->param` is the field's name. `object` must outlive the result. */
enum status generate_request_read(struct generate_request *request, const json_t *object, enum generate_door door,
                                  struct error *error) MUST_CHECK;

/* The prompt of that number, below prompt_count. */
struct generate_prompt generate_request_prompt(const struct generate_request *request, size_t index);

/* Fills in the entries of `logit_bias`, as many as the object has: symbols by number, or by their text where that is no
 * number. INVALID names a text that is no symbol's. */
enum status generate_request_biases(const struct generate_request *request, const struct vocabulary *vocabulary,
                                    struct penalty_bias *biases, size_t *ret_count, struct error *error) MUST_CHECK;

/* The fields as a JSON schema's object. New reference, NULL without memory. */
json_t *generate_request_schema(void);

/* Sets a field that the caller left out from the model's settings; a value that the table refuses is an error. */
enum status generate_request_default(struct generate_request *request, const char *name, const json_t *value,
                                     struct error *error) MUST_CHECK;

/* Whether the caller, or the model's settings, set the field. */
bool generate_request_is_given(const struct generate_request *request, const char *name);

/* The names that may be given defaults, NULL behind the last. */
const char *generate_request_default_name(size_t index);

/* How long the text is collected before a stream is sent it, where `text_count` requests run: as asked, and where they
 * are more than a thousand a millisecond for each 25 of them. Ten thousand streams get theirs every 0.4 s, in larger
 * pieces: sending costs as much as making it. */
uint64_t generate_request_flush_ms(const struct generate_request *request, size_t text_count);

/* The same object from one query parameter more (both decoded): numbers, true/false and texts by the field's kind;
 * `stop` may be given several times, `logit_bias` is JSON. INVALID as above. */
enum status generate_request_add_query(json_t *object, const char *name, const char *value,
                                       struct error *error) MUST_CHECK;

#endif
