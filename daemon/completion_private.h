/* What completion.c (the course of a completion) and completion_reply.c (its replies) share. Thread: loop. */
#ifndef DAEMON_COMPLETION_PRIVATE_H
#define DAEMON_COMPLETION_PRIVATE_H

#include <pthread.h>

#include "daemon/completion.h"
#include "daemon/sessions.h"

enum { COMPLETION_MAGIC = 0x636f6d70, COMPLETION_PIECE_BYTES_MAX = 8 * GENERATION_RING_BYTES };

struct completions {
    struct server *server;
    struct completion *first;
    size_t count;
    size_t adapting_count; /* of these, those that adapt; and of each flow */
    size_t key_adapting_counts[GENERATION_FLOW_COUNT];
    uint64_t text_count, predicted_symbols; /* of all that are admitted */
    uint64_t flow_text_counts[GENERATION_FLOW_COUNT],
        flow_predicted_symbols[GENERATION_FLOW_COUNT]; /* and of each flow's */
    pthread_mutex_t lock;
    struct choice *queued;                  /* under lock: choices whose generations advanced */
    struct choice *advancing;               /* taken from there, to be looked at with the next turns */
    bool is_posted;                         /* under lock */
    char piece[COMPLETION_PIECE_BYTES_MAX]; /* of a stream, being made */
    size_t piece_length;
    struct message message;
};

/* One generation's place in a completion. Lives until the generation's last reference is gone: that posts `message`.
 * */
struct choice {
    struct message message;
    struct completion *completion;
    struct generation *generation; /* NULL before it was made, and after it ended */
    size_t index;
    struct choice *next_queued; /* completions.queued, under its lock, as what follows */
    struct generation *queued_generation;
    bool is_queued;
    size_t report_count;
    enum finish_reason finish; /* set when its last byte was read */
    bool is_finish_sent;
    bool is_role_told;    /* DOOR_CHAT: its stream began */
    bool is_told;         /* FORM_JSON: in the reply */
    struct error failure; /* status OK: none so far */
    char *text;           /* FORM_JSON: what was read so far */
    size_t text_length, text_capacity;
    bool is_cut;               /* reply_bytes_max was reached */
    size_t shown_bytes;        /* of text, so far in the reply or its stream */
    struct generation *scored; /* FORM_JSON: ended, kept for its logprobs; or NULL */
    json_t *logprobs;          /* made, not yet in the reply or its stream; NULL: none */
    size_t logprob_count;      /* symbols whose logprobs were made */
    size_t taken_bytes;        /* read from the ring for somebody */
    bool has_rest;             /* the last piece was as long as one may be */
    struct text_state *state;  /* where it ended, if that is wanted; owned */
    size_t prompt_count;       /* symbols */
    size_t cached_count;       /* of those, found in the prompt cache; whole chunks, as it is told */
    size_t token_count;
    uint64_t joined_ns, first_ns, ended_ns; /* its first decode step, its first symbol, its end; 0: not yet */
};

struct completion {
    struct job job; /* parsing or encoding on a run thread */
    uint32_t magic;
    size_t references; /* one of the reply's, one of each choice's generation, one of an open timer */
    struct completions *owner;
    struct completion *next, **link;
    struct request *request; /* held */
    json_t *object;          /* what `fields` borrows from */
    json_t *defaults;        /* and what it borrows from the model's settings */
    struct generate_request fields;
    uint32_t *context;         /* DOOR_SCORE: the symbols of its text, which stand before every candidate; else NULL */
    size_t context_count;      /* 0 before its text was encoded */
    bool adapts;               /* its session does */
    struct adapting *adapting; /* owned; NULL: it does not, or has not begun to */
    struct session_turn session_turn; /* in the request's session */
    struct text_state *from;          /* what its texts go on from; owned, NULL: from the beginning */
    json_t *messages;                 /* DOOR_CHAT: what the template is laid over; else NULL */
    json_t *foreign;                  /* DOOR_OIP: the body as it came; else NULL */
    size_t beam_width;                /* 0: its texts are sampled */
    enum generate_door door;
    enum completion_form form;
    char model[136]; /* the reference asked for; then, with a snapshot, "bard@7" */
    struct snapshot *snapshot;
    char fingerprint[96]; /* of build, weights, kernels; made with the first reply */
    enum status status;   /* what a job came to */
    struct error error;
    struct choice *choices;
    size_t choice_count;
    size_t ended_count;
    uint64_t seed;
    int64_t created; /* seconds since 1970 */
    uint64_t started_ns, first_ns, deadline_ms;
    uint64_t predicted_symbols;    /* its texts read and make so many at most */
    bool is_admitted;              /* they count, until its end */
    struct limit_account *account; /* of its key; NULL: nothing is limited */
    bool is_default_start;         /* nobody said what text to begin from */
    bool is_in_job;                /* on a run thread: encoding owns the choices, replying their logprobs */
    bool is_waiting;               /* for its turn in its session */
    bool is_loading;               /* what it asks for is: completion_begin will be called */
    bool has_waited_for_load;
    bool is_submitted;
    bool is_started;   /* a stream reads from here */
    bool is_abandoned; /* nobody will read the reply */
    bool is_given_up;  /* its client closed its side, and has left for all we know */
    uint64_t grace_ms; /* when that will be held for so, unless something is written; 0: never */
    bool wants_cancel, is_over;
    uv_timer_t timer;
    uint64_t flushed_ms, written_ms; /* when text, and anything, was last handed to the stream */
    char *pending;                   /* of a piece, what the stream had no room for; or NULL */
    size_t pending_length, pending_offset;
    size_t turn;         /* the choice to be read next */
    bool is_due;         /* the stream may take what there is; else what came since its last piece waits for flush_ms */
    size_t taken_pieces; /* since it became due */
    bool wants_ping, is_first_sent, is_usage_sent, is_done_sent;
};

/* Turns every prompt into symbols and makes the generations of its choices; those made before an error stay. Errors
 * name the field. Thread: loop or run. */
enum status completion_make_generations(struct completion *completion, struct error *error) MUST_CHECK;

/* Whether there is nothing to read; then: the start text, in `defaults` where the model has one, or nothing where its
 * text goes on. Thread: loop or run. */
bool completion_is_prompt_empty(const struct completion *completion);
void completion_fill_prompt(struct completion *completion);

/* Before its generations are submitted: lets its texts and symbols count against the queue, its key's share of that and
 * its key's limits. TOO_LARGE where the queue never has that room; LIMIT, code "queue_full", "queue_share" or
 * limits.h's. */
enum status completion_admit(struct completion *completion, struct error *error) MUST_CHECK;
/* Where there are keys, none may hold more of a queue than eight times what it leaves free: alone it gets eight ninths,
 * two get eight seventeenths each, and there is always room for one who comes later. (Dynamic thresholds: Choudhury and
 * Hahne, IEEE/ACM Transactions on Networking 6(2), 1998.) Who holds nothing is let in. LIMIT, code "queue_share". */
enum status completion_check_share(const struct completion *completion, uint64_t held, uint64_t more, uint64_t free,
                                   const char *what, struct error *error) MUST_CHECK;
/* At its end: gives them back, as far as they were not used. */
void completion_give_back(struct completion *completion);

/* How long its stream may be silent before a comment follows: not long where its client closed its side, since only
 * writing tells whether it has left. */
uint64_t completion_ping_ms(const struct completion *completion);

/* Looks at the choices that advanced: the completions' message. */
void completions_on_message(struct message *message);

/* The completion that a callback's context is. */
struct completion *completion_from(void *pointer);

/* "cmpl-" or "chatcmpl-" and the request's id. */
enum { COMPLETION_ID_BYTES_MAX = REQUEST_ID_BYTES_MAX + 10 };
void completion_id(const struct completion *completion, char id[COMPLETION_ID_BYTES_MAX]);

/* Its generation, which waits for its reader or was cancelled, has something to do. */
void completion_wake(struct completion *completion);

/* Ends its generations at their next step. */
void completion_cancel(struct completion *completion);

/* One reference less; the last frees it. */
void completion_unref(struct completion *completion);

/* Frees it once the reply is through (or nobody waits for it) and every choice has ended. */
void completion_close_if_over(struct completion *completion);

/* Its timer, at `due_ms` or sooner: at the deadline of a wait for its turn or of an adapting text, at the end of its
 * client's grace. */
void completion_start_timer(struct completion *completion, uint64_t due_ms);

/* A choice of its stream, which has begun, has news: lets the stream take them at once where the choice ended or its
 * ring fills, else at most every flush_ms. */
void completion_time_text(struct completion *completion, const struct choice *choice);

/* A choice of its stream was read: what came meanwhile, which may not be reported, is taken flush_ms later. */
void completion_time_rest(struct completion *completion, const struct choice *choice);

/* generation_create's release_lifetime; the lifetime is the choice. Thread: any. */
void completion_release_choice(void *lifetime);

/* request_hold's on_gone; the context is the completion. */
void completion_on_gone(void *context, struct request *request);

/* Moves a choice's ready text out of its ring and sees whether it ended. Returns the number of bytes (at most
 * GENERATION_RING_BYTES, or few where each brings logprobs into the same event) written to `bytes`. */
size_t completion_read_choice(struct choice *choice, char bytes[GENERATION_RING_BYTES]);

/* The name of the key that asks; "": none. Thread: loop or run. */
const char *completion_owner(const struct completion *completion);

/* The flow of its rows: one for each key, or for each address that uses a key with per_address. There are
 * GENERATION_FLOW_COUNT, so two may fall together. Thread: loop or run. */
size_t completion_flow(const struct completion *completion);

/* Enters the request's session where it names one, or begins to wait for its turn (is_waiting), which calls
 * completion_begin. Errors of sessions_enter; INVALID for fields that do not go with a session. */
enum status completion_enter_session(struct completion *completion, struct error *error) MUST_CHECK;

/* With its fields read, and inside its session: finds the model, and so on until its texts are being made. */
void completion_begin(struct completion *completion);

/* Its turn will not be waited for any longer: gives up its place and replies that nothing was made. */
void completion_stop_waiting(struct completion *completion, enum finish_reason finish);

/* Its deadline, as far as that is known: without the model's default before the model is found. */
void completion_set_deadline(struct completion *completion);

/* Leaves it, at the end, with the state of what was sent; as it was, where nothing was. */
void completion_leave_session(struct completion *completion);

/* Its texts go on from the request's `state`, if it has one. Errors of text_state_read. Thread: loop or run. */
enum status completion_read_state(struct completion *completion, struct error *error) MUST_CHECK;

/* Finds what its texts go on from in its session. `*reference` is the request's model, and becomes that of a session
 * that goes on, in `model`. INVALID for fields that do not go with it. */
enum status completion_take_state(struct completion *completion, const char **reference,
                                  char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error) MUST_CHECK;

/* The part of it that is about its session, where it is in one; or waits for one, whose state it then only looks at. */
enum status completion_take_session(struct completion *completion, const char **reference,
                                    char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error) MUST_CHECK;

/* Whether its session adapts: by what the session learned `before` (NULL: it does not) where that is begun, else by the
 * request. INVALID where the request says another, or something that does not go with it. */
enum status completion_adapt_choose(struct completion *completion, struct adapted_weights *before, bool is_begun,
                                    struct error *error) MUST_CHECK;

/* In order, where it adapts, else without effect: with its snapshot found, notes the graph and what was learned before
 * (LIMIT, code "adapting_max" or "queue_share"; registry_served_ticket's errors); makes the copy that learns
 * (TOO_LARGE, code "sessions_bytes_max"; served_open's and adapted_text_create's errors; thread: run); says how long
 * the prompt is, with its generation made and not begun; ends, with its generation gone. */
enum status completion_adapt_begin(struct completion *completion, struct error *error) MUST_CHECK;
enum status completion_adapt_open(struct completion *completion, struct error *error) MUST_CHECK;
void completion_adapt_expect(struct completion *completion, size_t prompt_count);
void completion_adapt_end(struct completion *completion);

/* Its text has ended: who hears of that finds its place among those that adapt free. */
void completion_adapt_give_back(struct completion *completion);

/* Generates, where it adapts: in place of batcher_submit. */
void completion_adapt_start(struct completion *completion);

/* What its texts are made of: its snapshot's, or the adapting copy's. Thread: loop or run. */
const struct decode_plan *completion_plan(const struct completion *completion);

/* What its session has learned by its end, borrowed; NULL where it does not adapt, or its prompt was not read whole. */
struct adapted_weights *completion_adapted(const struct completion *completion);

/* Looking for the snapshot failed: begins to wait where its version is being loaded, once; then completion_begin is
 * called again. */
bool completion_wait_for_load(struct completion *completion, struct error *error);

/* It waits for a load no longer: answers `error`. */
void completion_stop_loading(struct completion *completion, const struct error *error);

/* The error is that field's; returns its status. */
enum status completion_refuse_field(struct error *error, const char *param);

/* What came of looking for the snapshot: UNPROCESSABLE, code "session_version_gone", where a session's version is not
 * there any more or has another content. */
enum status completion_check_version(const struct completion *completion, enum status status,
                                     struct error *error) MUST_CHECK;

/* The caller's seed, else the one its text began with, else the model's, else any below 2^53. */
void completion_choose_seed(struct completion *completion, bool is_given);

/* Whether the states that its texts end in are wanted. */
bool completion_wants_states(const struct completion *completion);

/* The choice's generation has ended: keeps where it stands, behind what was taken of its text. Without memory the
 * choice fails. */
void completion_keep_state(struct choice *choice);

/* Symbols of the state it goes on from that each text reads first: pending ones, but for the last, which is next. */
size_t completion_replayed_count(const struct completion *completion);

/* Sets "state" in a choice of the reply, where the request said so, and the parts of "usage" that tell what was not
 * read again. False without memory. Thread: loop or run. */
bool completion_show_state(struct choice *choice, json_t *object);
bool completion_show_cached(const struct completion *completion, json_t *usage);

/* Adds the log-probabilities of what is shown by now to `logprobs`; with `finish`, of all that will ever be. Without
 * memory the choice fails: `failure` is set and its generation cancelled. Thread: loop; a run thread's for `scored`. */
void completion_take_logprobs(struct choice *choice, enum finish_reason finish);

enum { SYMBOL_NAME_BYTES_MAX = GENERATION_SYMBOL_BYTES_MAX + 16 };

/* A symbol's name: its text where it stands; a byte that is no character alone is "bytes:\xc3", as OpenAI has it.
 * Returns its length. Any thread. */
size_t completion_name_symbol(const struct vocabulary *vocabulary, uint32_t symbol, struct text_position begin,
                              char name[SYMBOL_NAME_BYTES_MAX]);

/* Makes the body of a completion of a score's body: {"text","candidates"} are its prompts; one that names no priority
 * has the low one, since nobody watches it come. Errors name the field. New reference. Any thread. */
enum status completion_score_translate(const json_t *object, json_t **ret_object, struct error *error) MUST_CHECK;

/* Encoded is a prompt of a score: that of its text becomes its context, that of a candidate gets the context before it,
 * for which `symbols` has room. INVALID for none, or when it is all too long. Thread: loop or run. */
enum status completion_score_prompt(struct completion *completion, size_t index, uint32_t *symbols, size_t *count,
                                    struct error *error) MUST_CHECK;

/* Fails the choices that ended before their last symbol. */
void completion_score_check(struct completion *completion);

/* The reply of a score; NULL without memory. Thread: loop or run. */
json_t *completion_score_reply(const struct completion *completion);

/* Makes the body of a completion of a generate's body, in its place; that is kept aside. Errors name the field. Thread:
 * loop or run. */
enum status completion_oip_translate(struct completion *completion, struct error *error) MUST_CHECK;

/* Whether its session is over with the reply. */
bool completion_oip_ends_session(const struct completion *completion);

/* A generate's reply, or an event of its stream, of a completion's; takes the reference. NULL without memory. Thread:
 * loop or run. */
json_t *completion_oip_reply(const struct completion *completion, json_t *reply);

/* Makes the body of a completion of a chat's body, in its place; the messages are kept aside. Errors name the field.
 * Thread: loop or run. */
enum status completion_chat_translate(struct completion *completion, struct error *error) MUST_CHECK;

/* Lays the model's template, which is in `defaults` where it has one, over the messages: the prompt, and what ends the
 * reply. INVALID names the message. Thread: loop or run. */
enum status completion_chat_lay(struct completion *completion, struct error *error) MUST_CHECK;
/* How long that may be, besides the messages; 0 for what is no chat. */
size_t completion_chat_bytes(const struct completion *completion);

/* What a reply says of a choice; of a stream what it has new. Takes the reference of `logprobs`, a completion's four
 * arrays or null. NULL without memory. Thread: loop or run. */
json_t *completion_chat_choice(struct choice *choice, const char *text, size_t length, json_t *logprobs,
                               const char *finish);

/* Why a choice ended: "length", also where reply_bytes_max cut it, "stop", "cancelled", "deadline" or "failed". */
const char *completion_finish_name(const struct choice *choice);

/* Replies FORM_JSON when every choice has ended; a long reply follows later (is_in_job). */
void completion_reply_whole(struct completion *completion);

/* Begins the reply of a stream. */
void completion_reply_stream(struct completion *completion);

/* The stream is over, or nobody reads it: called once, by completion_reply.c. */
void completion_on_stream_released(struct completion *completion);

#endif
