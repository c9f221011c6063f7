/* A version's loss on a training's text: the text in the version's symbols, then the trainer's evaluation. */
#include "engine/model/version_loss.h"

#include "engine/base/mem.h"
#include "engine/model/model_private.h"
#include "engine/nn/language_model.h"
#include "engine/text/utf8.h"
#include "engine/train/evaluation.h"

enum { PIECE_SYMBOLS = 1024, TEXT_BYTES_FIRST = 1 << 16, TEXT_BYTES_MAX = 256 << 20 };

static enum status not_comparable(struct error *error, const char *why)
{
    error_set(error, STATUS_UNPROCESSABLE, "%s", why);
    return error_code(error, "not_comparable"), STATUS_UNPROCESSABLE;
}

/* ---- the text ---- */

struct text {
    char *bytes; /* owned */
    size_t length;
    size_t room;
};

static enum status add(struct text *text, const char *bytes, size_t length, struct error *error)
{
    if (length > TEXT_BYTES_MAX - text->length) {
        return not_comparable(error, "the validation text is too long to be read in other symbols");
    }
    if (length > text->room - text->length) {
        size_t room = 2 * text->room + length + TEXT_BYTES_FIRST;
        char *grown = mem_reallocate(text->bytes, room, 1);
        if (grown == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for a text of %zu bytes", room);
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    return STATUS_OK;
}

/* Words of a line have one space between them. */
static enum status add_symbol(struct text *text, const struct vocabulary *vocabulary, uint32_t id, struct error *error)
{
    size_t length;
    const char *symbol = vocabulary_symbol(vocabulary, id, &length);
    if (vocabulary_kind(vocabulary) != VOCABULARY_WORDS) {
        return add(text, symbol, length, error);
    }
    if (id == vocabulary_unknown(vocabulary)) {
        return not_comparable(error, "<unk> stands for words of the validation text");
    }
    if (id == vocabulary_end_of_line(vocabulary)) {
        return add(text, "\n", 1, error);
    }
    bool is_inside_line = text->length > 0 && text->bytes[text->length - 1] != '\n';
    TRY(is_inside_line ? add(text, " ", 1, error) : STATUS_OK);
    return add(text, symbol, length, error);
}

static enum status write_text(const struct version_loss_options *options, struct text *text, struct error *error)
{
    int32_t ids[PIECE_SYMBOLS];
    for (size_t done = 0; done < options->stretch.count;) {
        size_t rest = options->stretch.count - done;
        size_t count = rest < PIECE_SYMBOLS ? rest : PIECE_SYMBOLS;
        TRY(corpus_copy_symbols(options->corpus, options->stretch.begin + done, count, ids, error));
        for (size_t i = 0; i < count; i++) {
            TRY(add_symbol(text, options->vocabulary, (uint32_t)ids[i], error));
        }
        done += count;
    }
    return STATUS_OK;
}

static bool continues_character(char byte)
{
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Bytes may have been cut off in the middle of a character. */
static void trim_characters(struct text *text)
{
    size_t begin = 0;
    uint32_t code_point;
    if (text->bytes == NULL) {
        return;
    }
    while (begin < text->length && begin < UTF8_BYTES_MAX && continues_character(text->bytes[begin])) {
        begin++;
    }
    size_t last = text->length;
    while (last > begin && continues_character(text->bytes[last - 1])) {
        last--;
    }
    last -= last > begin;
    bool is_whole = utf8_decode(text->bytes + last, text->length - last, &code_point) == text->length - last;
    text->length = (is_whole ? text->length : last) - begin;
    memmove(text->bytes, text->bytes + begin, text->length);
}

/* ---- in the version's symbols ---- */

/* A text in one vocabulary's symbols. */
struct reading {
    const struct corpus *corpus;
    struct corpus_stretch stretch;
    struct corpus *own; /* the corpus, where it was made for this; NULL: it was there */
    double symbols_per_character;
};

static enum status count_characters(struct reading *reading, struct error *error)
{
    uint64_t characters;
    TRY(corpus_count_characters(reading->corpus, reading->stretch, &characters, error));
    reading->symbols_per_character = (double)reading->stretch.count / (double)(characters > 0 ? characters : 1);
    return STATUS_OK;
}

static enum status check_known(const struct reading *reading, const struct vocabulary *vocabulary, struct error *error)
{
    int32_t ids[PIECE_SYMBOLS];
    for (size_t done = 0; done < reading->stretch.count;) {
        size_t rest = reading->stretch.count - done;
        size_t count = rest < PIECE_SYMBOLS ? rest : PIECE_SYMBOLS;
        TRY(corpus_copy_symbols(reading->corpus, done, count, ids, error));
        for (size_t i = 0; i < count; i++) {
            if ((uint32_t)ids[i] == vocabulary_unknown(vocabulary)) {
                return not_comparable(error, "it has <unk> for words of the validation text");
            }
        }
        done += count;
    }
    return STATUS_OK;
}

static enum status encode(const struct version_loss_options *options, const struct text *text,
                          const struct vocabulary *vocabulary, struct reading *reading, struct error *error)
{
    struct corpus_source source = {.parts = {{.text = text->bytes, .text_bytes = text->length}},
                                   .kind = vocabulary_kind(vocabulary),
                                   .directory = options->directory,
                                   .is_cancelled = options->is_cancelled};
    TRY(corpus_create(&source, &reading->own, error));
    TRY(corpus_encode(reading->own, vocabulary, error));
    reading->corpus = reading->own;
    reading->stretch = (struct corpus_stretch){.begin = 0, .count = corpus_symbol_count(reading->own)};
    if (reading->stretch.count < 2) {
        return not_comparable(error, "the validation text is shorter than two of its symbols");
    }
    TRY(vocabulary_unknown(vocabulary) != SYMBOL_NONE ? check_known(reading, vocabulary, error) : STATUS_OK);
    return count_characters(reading, error);
}

static enum status read_anew(const struct version_loss_options *options, const struct vocabulary *vocabulary,
                             struct reading *reading, struct error *error)
{
    struct text text = {.bytes = NULL};
    enum status status = write_text(options, &text, error);
    if (status == STATUS_OK && vocabulary_kind(options->vocabulary) == VOCABULARY_BYTES) {
        trim_characters(&text);
    }
    if (status == STATUS_OK) {
        status = encode(options, &text, vocabulary, reading, error);
    }
    mem_free(text.bytes);
    return status;
}

/* ---- measuring ---- */

static enum status evaluate(const struct version_loss_options *options, const struct version_content *content,
                            const struct reading *reading, double *ret_loss, struct error *error)
{
    struct evaluation *evaluation = NULL;
    struct trainer_threads *threads = NULL;
    size_t thread_count = options->threads < options->shards ? options->threads : options->shards;
    TRY(trainer_threads_create(thread_count, options->is_idle_priority, &threads, error));
    struct evaluation_options evaluated = {.graph = content->graph,
                                           .values = content->values,
                                           .corpus = reading->corpus,
                                           .stretch = reading->stretch,
                                           .shard_count = options->shards,
                                           .threads = threads,
                                           .is_cancelled = options->is_cancelled};
    enum status status = evaluation_create(&evaluated, &evaluation, error);
    if (status == STATUS_OK) {
        status = evaluation_run(evaluation, ret_loss, error);
        evaluation_destroy(evaluation);
    }
    trainer_threads_destroy(threads);
    return status;
}

static enum status measure(const struct version_loss_options *options, const struct version_content *content,
                           double *ret_loss, struct error *error)
{
    struct language_model_options model;
    struct reading asked = {.corpus = options->corpus, .stretch = options->stretch};
    if (content->vocabulary == NULL || !language_model_find(content->graph, &model)) {
        error_set(error, STATUS_UNPROCESSABLE, "it has no language_model");
        return error_code(error, "no_language_model"), STATUS_UNPROCESSABLE;
    }
    model.has_train_head = true; /* which a model that was made elsewhere may lack */
    TRY(language_model_build(content->graph, &model, error));
    TRY(count_characters(&asked, error));
    struct reading reading = asked;
    double loss = 0;
    enum status status = vocabulary_equal(options->vocabulary, content->vocabulary)
                             ? STATUS_OK
                             : read_anew(options, content->vocabulary, &reading, error);
    if (status == STATUS_OK) {
        status = evaluate(options, content, &reading, &loss, error);
    }
    corpus_destroy(reading.own);
    TRY(status);
    *ret_loss = loss * reading.symbols_per_character / asked.symbols_per_character;
    return STATUS_OK;
}

enum status version_loss_measure(const struct version_loss_options *options, double *ret_loss, struct error *error)
{
    struct version_content content = {.graph = NULL};
    TRY(version_content_read(options->version_path, VERSION_USE_LIVE, &content, error));
    enum status status = measure(options, &content, ret_loss, error);
    version_content_release(&content);
    return status;
}
