/* Texts that go on from a state: in however many pieces, through bytes, behind a stop string or a place of the reader's
 * choice, they are the text that one generation would have made. And bytes that are no state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// cmocka needs those above
#include <math.h>
#include <stdio.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/decode/decode_batch.h"
#include "engine/decode/generation.h"
#include "tests/unit/decode_model.h"

enum { SEED = 77, TEXT_BYTES_MAX = 8192, TOKENS = 240, SYMBOLS = 60 };

static const struct text_origin origin = {.model = "test@1", .digest = {1, 2, 3}};

/* A model and a batch to step it by hand. */
struct rig {
    struct decode_model model;
    struct decode_plan *plan;
    struct decode_batch *batch;
};

/* A text, and where it stands. */
struct said {
    char text[TEXT_BYTES_MAX];
    size_t length;
    enum finish_reason finish;
    struct text_state *state; /* owned */
};

static void rig_init(struct rig *rig, struct vocabulary *vocabulary, enum decode_cell cell, size_t embedding_size,
                     enum rnn_precision precision)
{
    struct error error;
    *rig = (struct rig){0};
    decode_model_init_cells(&rig->model, vocabulary, cell, embedding_size, 2, 19, SEED);
    rig->model.weights.precision = precision;
    assert_int_equal(decode_plan_create(&rig->model.weights, &rig->plan, &error), STATUS_OK);
    assert_int_equal(decode_batch_create(&rig->batch, &error), STATUS_OK);
}

static void rig_release(struct rig *rig)
{
    decode_batch_destroy(rig->batch);
    decode_plan_destroy(rig->plan);
    decode_model_release(&rig->model);
}

static struct generation *create(const struct rig *rig, struct generation_options options)
{
    struct generation *generation = NULL;
    struct error error;
    options.origin = &origin;
    options.want_state = true;
    options.top_p = options.top_p == 0.0 ? 1.0 : options.top_p;
    enum status status = generation_create(rig->plan, rig->model.vocabulary, &options, NULL, NULL, &generation, &error);
    if (status != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return generation;
}

static void read_text(struct generation *generation, struct said *said)
{
    for (size_t length = 1; length > 0; said->length += length) {
        assert_true(said->length + UTF8_BYTES_MAX < sizeof said->text);
        length = generation_read(generation, said->text + said->length, sizeof said->text - said->length);
    }
}

/* Steps a generation until it ends, at most `steps` times. */
static void run(const struct rig *rig, struct generation *generation, size_t steps, struct said *said)
{
    for (size_t step = 0; step < steps && decode_batch_run(rig->batch, rig->plan, &generation, 1); step++) {
        read_text(generation, said);
    }
    read_text(generation, said);
    said->finish = generation_progress(generation).finish;
}

static struct text_state *make_state(const struct generation *generation, size_t sent_bytes)
{
    struct text_state *state = NULL;
    struct error error;
    assert_int_equal(generation_make_state(generation, sent_bytes, &state, &error), STATUS_OK);
    return state;
}

/* Adds what a generation says to `said`, whose state it begins from where `options` has none, and moves on to its. */
static void say(const struct rig *rig, struct generation_options options, struct said *said)
{
    options.state = options.state == NULL ? said->state : options.state;
    struct generation *generation = create(rig, options);
    run(rig, generation, SIZE_MAX, said);
    text_state_unref(said->state);
    said->state = make_state(generation, SIZE_MAX);
    generation_unref(generation);
}

/* The same state, written and read. */
static void carry(struct said *said)
{
    char bytes[16384];
    struct error error;
    size_t length = text_state_bytes(said->state);
    assert_true(length <= sizeof bytes);
    text_state_write(said->state, bytes);
    said->state = text_state_unref(said->state);
    assert_int_equal(text_state_read(bytes, length, &said->state, &error), STATUS_OK);
}

static void assert_same_text(const struct said *a, const struct said *b)
{
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->text, b->text, a->length);
}

static void assert_same_state(const struct text_state *a, const struct text_state *b)
{
    char bytes[2][16384];
    assert_int_equal(text_state_bytes(a), text_state_bytes(b));
    text_state_write(a, bytes[0]);
    text_state_write(b, bytes[1]);
    assert_memory_equal(bytes[0], bytes[1], text_state_bytes(a));
}

static const uint32_t prompt[] = {3, 14, 15, 9, 26, 5};
enum { PROMPT_COUNT = sizeof prompt / sizeof *prompt };

/* All that a text's future depends on is on. */
static struct generation_options vivid(size_t tokens_max)
{
    return (struct generation_options){
        .prompt = prompt,
        .prompt_count = PROMPT_COUNT,
        .tokens_max = tokens_max,
        .temperature = 0.9,
        .top_k = 30,
        .penalties = {.repetition = 1.2, .repetition_window = 16, .frequency = 0.1, .presence = 0.2},
        .seed = 5,
        .choice = 2};
}

/* The same, going on without a prompt. */
static struct generation_options vivid_further(size_t tokens_max)
{
    struct generation_options options = vivid(tokens_max);
    options.prompt = NULL;
    options.prompt_count = 0;
    return options;
}

static void check_pieces_of(const struct rig *rig)
{
    struct said whole = {.length = 0};
    struct said pieces = {.length = 0};
    say(rig, vivid(TOKENS), &whole);
    assert_int_equal(whole.length, TOKENS);
    say(rig, vivid(1), &pieces);
    for (size_t count = 1; count < TOKENS;) {
        size_t next = 1 + count % 3 < TOKENS - count ? 1 + count % 3 : TOKENS - count;
        carry(&pieces);
        say(rig, vivid_further(next), &pieces);
        count += next;
    }
    assert_same_text(&whole, &pieces);
    assert_same_state(whole.state, pieces.state);
    assert_int_equal(text_state_symbol_count(whole.state), PROMPT_COUNT + TOKENS);
    text_state_unref(whole.state);
    text_state_unref(pieces.state);
}

static void check_pieces(enum decode_cell cell, size_t embedding_size, enum rnn_precision precision)
{
    struct rig rig;
    rig_init(&rig, decode_model_characters(SYMBOLS), cell, embedding_size, precision);
    check_pieces_of(&rig);
    rig_release(&rig);
}

static void test_pieces_are_one_text(void **state)
{
    (void)state;
    static const enum decode_cell cells[] = {DECODE_CELL_LSTM, DECODE_CELL_GRU, DECODE_CELL_RNN};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++) {
        for (int precision = 0; precision < RNN_PRECISION_COUNT; precision++) {
            check_pieces(cells[i], 0, (enum rnn_precision)precision);
            check_pieces(cells[i], 3, (enum rnn_precision)precision); /* too small for a table to be worth it */
        }
    }
}

/* Of a model that is stepped, and draws random numbers in every step. */
static void noise_begin(void *context, void *state)
{
    (void)context;
    *(uint64_t *)state = 7;
}

static enum status noise_step(void *context, const struct stepper_step *step, struct error *error)
{
    (void)context;
    (void)error;
    uint64_t sum = *(const uint64_t *)step->state * 31 + step->symbol;
    *(uint64_t *)step->next_state = sum;
    for (size_t i = 0; step->logits != NULL && i < SYMBOLS; i++) {
        step->logits[i] = (float)(rng_bits(sum, step->random_key, i) % 1000) / 200;
    }
    return STATUS_OK;
}

static void noise_destroy(void *context)
{
    (void)context;
}

static enum status noise_check(void *context, const void *state, struct error *error)
{
    (void)context;
    return *(const uint64_t *)state != 0 ? STATUS_OK : error_set(error, STATUS_INVALID, "no sum is 0");
}

static void test_pieces_of_a_stepped_model(void **state)
{
    (void)state;
    struct rig rig = {0};
    struct error error;
    struct stepper stepper = {.name = "noise",
                              .symbol_count = SYMBOLS,
                              .state_bytes = 64,
                              .begin = noise_begin,
                              .step = noise_step,
                              .check_state = noise_check,
                              .destroy = noise_destroy};
    rig.model.vocabulary = decode_model_characters(SYMBOLS);
    assert_int_equal(decode_plan_create_stepped(&stepper, &rig.plan, &error), STATUS_OK);
    assert_int_equal(decode_batch_create(&rig.batch, &error), STATUS_OK);
    check_pieces_of(&rig);
    rig_release(&rig);
}

static void test_a_prompt_in_pieces(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    struct said whole = {.length = 0};
    say(&rig, vivid(TOKENS), &whole);
    for (size_t cut = 1; cut < PROMPT_COUNT; cut++) {
        struct said pieces = {.length = 0};
        struct generation_options options = vivid(0);
        options.prompt_count = cut;
        say(&rig, options, &pieces);
        assert_int_equal(text_state_head(pieces.state)->fed_count, cut - 1);
        options = vivid(TOKENS);
        options.prompt += cut;
        options.prompt_count -= cut;
        say(&rig, options, &pieces);
        assert_same_text(&whole, &pieces);
        assert_same_state(whole.state, pieces.state);
        text_state_unref(pieces.state);
    }
    text_state_unref(whole.state);
    rig_release(&rig);
}

static void test_a_prompt_that_was_cut_off(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    struct said whole = {.length = 0};
    say(&rig, vivid(TOKENS), &whole);
    for (size_t steps = 0; steps < PROMPT_COUNT + 5; steps++) {
        struct said pieces = {.length = 0};
        struct generation *generation = create(&rig, vivid(TOKENS));
        run(&rig, generation, steps, &pieces);
        generation_cancel(generation);
        run(&rig, generation, SIZE_MAX, &pieces);
        assert_int_equal(pieces.finish, FINISH_CANCELLED);
        pieces.state = make_state(generation, SIZE_MAX);
        assert_int_equal(text_state_head(pieces.state)->fed_count, steps);
        generation_unref(generation);
        say(&rig, vivid_further(TOKENS - pieces.length), &pieces);
        assert_same_text(&whole, &pieces);
        assert_same_state(whole.state, pieces.state);
        text_state_unref(pieces.state);
    }
    text_state_unref(whole.state);
    rig_release(&rig);
}

/* Ends a text with the stop string that it has at `at`, then goes on without one: what the stop string took away is
 * said again. */
static void check_stop(const struct rig *rig, const struct said *whole, size_t at, size_t length)
{
    const char *const stop = whole->text + at;
    struct said pieces = {.length = 0};
    struct generation_options options = vivid(TOKENS);
    options.stop = &stop;
    options.stop_lengths = &length;
    options.stop_count = 1;
    say(rig, options, &pieces);
    assert_int_equal(pieces.finish, FINISH_STOP);
    assert_true(pieces.length <= at);
    assert_true(text_state_head(pieces.state)->pending_count <= length + 1);
    carry(&pieces);
    say(rig, vivid_further(TOKENS - pieces.length), &pieces);
    assert_same_text(whole, &pieces);
    assert_same_state(whole->state, pieces.state);
    text_state_unref(pieces.state);
}

static void test_stop_strings_leave_nothing_behind(void **state)
{
    (void)state;
    struct rig rig;
    struct said whole = {.length = 0};
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_GRU, 0, RNN_PRECISION_FP32);
    say(&rig, vivid(TOKENS), &whole);
    for (size_t at = 0; at < 40; at++) {
        check_stop(&rig, &whole, at, 1 + at % 4);
    }
    text_state_unref(whole.state);
    rig_release(&rig);
}

/* What the reader did not take is not in the state, wherever it stopped to read. */
static void check_sent(const struct rig *rig, struct generation_options options, size_t stop_count)
{
    static const char *const stop[] = {"never said"};
    static const size_t stop_lengths[] = {10};
    struct said whole = {.length = 0};
    options.stop = stop;
    options.stop_lengths = stop_lengths;
    options.stop_count = stop_count;
    struct generation *generation = create(rig, options);
    run(rig, generation, SIZE_MAX, &whole);
    whole.state = make_state(generation, whole.length);
    for (size_t sent = 0; sent <= whole.length; sent++) {
        struct said pieces = {.state = make_state(generation, sent)};
        size_t echoed = options.want_echo ? PROMPT_COUNT : 0;
        size_t made = sent > echoed ? sent - echoed : 0; /* a byte each */
        assert_int_equal(text_state_head(pieces.state)->made_count, made);
        struct generation_options further = options;
        further.prompt_count = 0;
        further.want_echo = false;
        further.tokens_max = options.tokens_max - made;
        say(rig, further, &pieces);
        assert_int_equal(pieces.length, further.tokens_max);
        assert_memory_equal(pieces.text, whole.text + echoed + made, pieces.length);
        assert_same_state(whole.state, pieces.state);
        text_state_unref(pieces.state);
    }
    generation_unref(generation);
    text_state_unref(whole.state);
}

static void test_only_what_was_sent_counts(void **state)
{
    (void)state;
    struct rig rig;
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    for (size_t stop_count = 0; stop_count <= 1; stop_count++) {
        struct generation_options options = vivid(40);
        check_sent(&rig, options, stop_count);
        options.want_echo = true;
        options.penalties = (struct penalty_options){.repetition_window = 7};
        check_sent(&rig, options, stop_count);
    }
    rig_release(&rig);
}

/* What a text has said, as symbols, and what its states remember of it where it is cut. */
struct memory {
    uint32_t said[PROMPT_COUNT + 2 * TOKENS];
    size_t count;
    size_t made_begin; /* the prompt's are not counted */
};

static void remember(const struct rig *rig, const char *text, size_t length, struct memory *memory)
{
    size_t count;
    struct error error;
    assert_int_equal(vocabulary_encode(rig->model.vocabulary, text, length, UNKNOWN_SYMBOLS_ERROR,
                                       memory->said + memory->count, &count, &error),
                     STATUS_OK);
    memory->count += count;
}

/* The last symbols of the window in their order, and how often each was made, in the order of first appearance. */
static void assert_remembers(const struct text_state *state, const struct memory *memory, size_t window)
{
    const struct text_state_head *head = text_state_head(state);
    size_t recent_count = memory->count < window ? memory->count : window;
    struct made_symbol counted[SYMBOLS];
    size_t counted_count = 0;
    for (size_t i = memory->made_begin; i < memory->count; i++) {
        size_t at = 0;
        while (at < counted_count && counted[at].symbol != memory->said[i]) {
            at++;
        }
        counted[at] = (struct made_symbol){memory->said[i], at == counted_count ? 1 : counted[at].count + 1};
        counted_count += at == counted_count;
    }
    assert_int_equal(head->recent_count, recent_count);
    assert_memory_equal(text_state_recent(state), memory->said + memory->count - recent_count,
                        recent_count * sizeof *memory->said);
    assert_int_equal(head->counted_count, counted_count);
    assert_memory_equal(text_state_counted(state), counted, counted_count * sizeof *counted);
}

/* Of a text cut anywhere, of another that goes on from there and is cut, and of one that does not count meanwhile. */
static void test_what_penalties_look_at(void **state)
{
    (void)state;
    struct rig rig;
    struct said whole = {.length = 0};
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    struct generation_options options = vivid(TOKENS);
    size_t window = options.penalties.repetition_window;
    struct generation *generation = create(&rig, options);
    run(&rig, generation, SIZE_MAX, &whole);
    for (size_t cut = 0; cut <= TOKENS; cut += 1 + cut / 3) {
        struct memory memory = {.count = PROMPT_COUNT, .made_begin = PROMPT_COUNT};
        memcpy(memory.said, prompt, sizeof prompt);
        remember(&rig, whole.text, cut, &memory);
        struct said further = {.state = make_state(generation, cut)};
        assert_remembers(further.state, &memory, window);
        struct generation_options more = vivid_further(TOKENS);
        more.state = further.state;
        more.seed = 1000 + cut;
        struct generation *other = create(&rig, more);
        run(&rig, other, SIZE_MAX, &further);
        struct text_state *at = make_state(other, cut);
        remember(&rig, further.text, cut, &memory);
        assert_remembers(at, &memory, window);
        text_state_unref(at);
        generation_unref(other);
        more.penalties.frequency = more.penalties.presence = 0;
        other = create(&rig, more);
        struct said unlooked = {.length = 0};
        run(&rig, other, SIZE_MAX, &unlooked);
        at = make_state(other, cut);
        assert_int_equal(text_state_head(at)->counted_count, text_state_head(further.state)->counted_count);
        assert_memory_equal(text_state_counted(at), text_state_counted(further.state),
                            text_state_head(at)->counted_count * sizeof(struct made_symbol));
        text_state_unref(at);
        generation_unref(other);
        text_state_unref(further.state);
    }
    generation_unref(generation);
    rig_release(&rig);
}

/* A byte model that says é, half of a character at a time: the half that waits belongs to the state. */
static void test_half_a_character_is_kept(void **state)
{
    (void)state;
    struct rig rig;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    assert_int_equal(vocabulary_create_bytes(&vocabulary, &error), STATUS_OK);
    rig_init(&rig, vocabulary, DECODE_CELL_LSTM, 8, RNN_PRECISION_FP32);
    static const uint32_t first[] = {'x'};
    struct penalty_bias only[] = {{.symbol = 0xC3, .bias = 100}, {.symbol = 0xA9, .bias = 100}};
    struct generation_options options = {.prompt = first,
                                         .prompt_count = 1,
                                         .tokens_max = 64,
                                         .temperature = 1,
                                         .seed = 3,
                                         .penalties = {.biases = only, .bias_count = 2}};
    struct said whole = {.length = 0};
    struct said pieces = {.length = 0};
    say(&rig, options, &whole);
    options.tokens_max = 1;
    for (size_t count = 0; count < 64; count++) {
        say(&rig, options, &pieces);
        carry(&pieces);
        options.prompt_count = 0;
    }
    assert_true(strstr(whole.text, "é") != NULL);
    assert_same_text(&whole, &pieces);
    assert_same_state(whole.state, pieces.state);
    options.prompt_count = 1; /* behind a new prompt no half of a character is finished */
    options.tokens_max = 0;
    say(&rig, options, &pieces);
    assert_int_equal(text_state_head(pieces.state)->unfinished_count, 0);
    text_state_unref(whole.state);
    text_state_unref(pieces.state);
    rig_release(&rig);
}

/* ---- what is refused ---- */

static void expect_refusal(const struct rig *rig, const void *bytes, size_t length, enum status status,
                           const char *code)
{
    struct text_state *state = NULL;
    struct generation *generation = NULL;
    struct error error;
    assert_int_equal(text_state_read(bytes, length, &state, &error), STATUS_OK);
    struct generation_options options = {.state = state, .top_p = 1, .origin = &origin};
    assert_int_equal(generation_create(rig->plan, rig->model.vocabulary, &options, NULL, NULL, &generation, &error),
                     status);
    assert_string_equal(error.code, code);
    assert_string_equal(error.param, "state");
    text_state_unref(state);
}

/* A state of the rig's model as bytes. */
static size_t write_some_state(const struct rig *rig, char *bytes, struct text_state_head *head)
{
    struct said said = {.length = 0};
    say(rig, vivid(20), &said);
    size_t length = text_state_bytes(said.state);
    text_state_write(said.state, bytes);
    *head = *text_state_head(said.state);
    text_state_unref(said.state);
    return length;
}

/* Puts the right checksum into bytes that were changed, by way of the one that writes it. */
static void seal(char *bytes, const struct text_state_head *head, const void *numbers, uint32_t symbol)
{
    struct text_state *state = NULL;
    struct text_state_parts parts;
    struct text_origin whose = {.model = "test@1"};
    struct error error;
    memcpy(whose.digest, head->digest, sizeof whose.digest);
    struct text_state_head copy = *head;
    copy.recent_count = copy.counted_count = 0;
    assert_int_equal(text_state_create(&copy, &whose, &state, &parts, &error), STATUS_OK);
    memcpy(parts.numbers, numbers, head->number_bytes);
    parts.pending[0] = symbol;
    text_state_write(state, bytes);
    text_state_unref(state);
}

static void test_states_of_others_are_refused(void **state)
{
    (void)state;
    struct rig rig;
    char bytes[16384];
    struct text_state_head head;
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    write_some_state(&rig, bytes, &head);
    float numbers[4 * 19];
    assert_int_equal(head.number_bytes, sizeof numbers);
    memcpy(numbers, bytes + sizeof head, sizeof numbers);
    size_t length = sizeof head + sizeof numbers + sizeof(uint32_t) + strlen("test@1");

    seal(bytes, &head, numbers, SYMBOLS);
    expect_refusal(&rig, bytes, length, STATUS_INVALID, "state_malformed");
    numbers[5] = (float)NAN;
    seal(bytes, &head, numbers, 1);
    expect_refusal(&rig, bytes, length, STATUS_INVALID, "state_malformed");
    numbers[5] = 0;
    struct text_state_head other = head;
    other.digest[0] ^= 1;
    seal(bytes, &other, numbers, 1);
    expect_refusal(&rig, bytes, length, STATUS_UNPROCESSABLE, "state_mismatch");
    other = head;
    other.is_stepped = 1;
    seal(bytes, &other, numbers, 1);
    expect_refusal(&rig, bytes, length, STATUS_UNPROCESSABLE, "state_mismatch");
    other = head;
    other.number_bytes -= 4;
    seal(bytes, &other, numbers, 1);
    expect_refusal(&rig, bytes, length - 4, STATUS_UNPROCESSABLE, "state_mismatch");

    static const struct {
        uint8_t bytes[UTF8_BYTES_MAX];
        uint8_t count;
    } no_beginnings[] = {{{0x80, 0x80, 0x80}, 3}, {{0xC3, 0xA9}, 2}, {{0x41}, 1}, {{0xF0, 0x9F, 0x90, 0x8B}, 4}};
    for (size_t i = 0; i < sizeof no_beginnings / sizeof *no_beginnings; i++) {
        other = head;
        other.unfinished_count = no_beginnings[i].count;
        memcpy(other.unfinished, no_beginnings[i].bytes, sizeof other.unfinished);
        seal(bytes, &other, numbers, 1);
        struct text_state *read = NULL;
        struct error error;
        assert_int_equal(text_state_read(bytes, length, &read, &error), STATUS_INVALID);
        assert_string_equal(error.code, "state_malformed");
    }
    rig_release(&rig);
}

static void test_changed_bytes_are_refused(void **state)
{
    (void)state;
    struct rig rig;
    char bytes[16384];
    struct text_state_head head;
    struct error error;
    struct text_state *read = NULL;
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_RNN, 0, RNN_PRECISION_FP32);
    size_t length = write_some_state(&rig, bytes, &head);
    for (size_t n = 0; n < length; n++) {
        bytes[n] = (char)(bytes[n] ^ (1 << n % 8));
        enum status status = text_state_read(bytes, length, &read, &error);
        assert_true(status == STATUS_INVALID || status == STATUS_UNSUPPORTED);
        assert_int_equal(text_state_read(bytes, n, &read, &error), STATUS_INVALID);
        bytes[n] = (char)(bytes[n] ^ (1 << n % 8));
    }
    assert_int_equal(text_state_read(bytes, length + 1, &read, &error), STATUS_INVALID);
    mem_fail_after(0);
    assert_int_equal(text_state_read(bytes, length, &read, &error), STATUS_NO_MEMORY);
    mem_fail_after(UINT64_MAX);
    assert_int_equal(text_state_read(bytes, length, &read, &error), STATUS_OK);
    text_state_unref(read);
    assert_null(text_state_unref(NULL));
    assert_null(text_state_ref(NULL));
    rig_release(&rig);
}

static void test_no_memory_is_reported(void **state)
{
    (void)state;
    struct rig rig;
    struct said said = {.length = 0};
    struct error error;
    static const char *const stop[] = {"~"};
    static const size_t stop_lengths[] = {1};
    rig_init(&rig, decode_model_characters(SYMBOLS), DECODE_CELL_LSTM, 0, RNN_PRECISION_FP32);
    say(&rig, vivid(4), &said);
    struct generation_options options = vivid_further(4);
    options.top_p = 1;
    options.state = said.state;
    options.origin = &origin;
    options.want_state = true;
    options.stop = stop;
    options.stop_lengths = stop_lengths;
    options.stop_count = 1;
    struct generation *generation = NULL;
    enum status status = STATUS_NO_MEMORY;
    uint64_t failures = 0;
    for (; status != STATUS_OK; failures++) {
        assert_true(failures < 40);
        mem_fail_after(failures);
        status = generation_create(rig.plan, rig.model.vocabulary, &options, NULL, NULL, &generation, &error);
        mem_fail_after(UINT64_MAX);
        assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
    }
    assert_true(failures > 8);
    run(&rig, generation, SIZE_MAX, &said);
    struct text_state *made = NULL;
    mem_fail_after(0);
    assert_int_equal(generation_make_state(generation, SIZE_MAX, &made, &error), STATUS_NO_MEMORY);
    mem_fail_after(UINT64_MAX);
    generation_unref(generation);
    text_state_unref(said.state);
    rig_release(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_one_text),
        cmocka_unit_test(test_pieces_of_a_stepped_model),
        cmocka_unit_test(test_a_prompt_in_pieces),
        cmocka_unit_test(test_a_prompt_that_was_cut_off),
        cmocka_unit_test(test_stop_strings_leave_nothing_behind),
        cmocka_unit_test(test_only_what_was_sent_counts),
        cmocka_unit_test(test_what_penalties_look_at),
        cmocka_unit_test(test_half_a_character_is_kept),
        cmocka_unit_test(test_states_of_others_are_refused),
        cmocka_unit_test(test_changed_bytes_are_refused),
        cmocka_unit_test(test_no_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
