/* The symbols of a foreign model: found beside it or in it, and as many as its matrices have. Thread: the one that
 * imports. */
#include <stdarg.h>

#include "engine/base/check.h"
#include "engine/import/understanding_private.h"
#include "engine/import/vocabulary_places.h"
#include "engine/text/utf8.h"

/* What stands for symbol 0 where symbols are numbered from 1, and for all others behind the last one. */
#define PADDING "<pad>"
#define UNKNOWN "<unk>"
#define KERAS_UNKNOWN "[UNK]" /* what its StringLookup and TextVectorization call it */

static enum status refuse(const struct thinking *thinking, const char *code, const char *format, ...) PRINTF_LIKE(3, 4);

static enum status refuse(const struct thinking *thinking, const char *code, const char *format, ...)
{
    char message[ERROR_MESSAGE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    error_set(thinking->error, STATUS_UNPROCESSABLE, "%s", message);
    return error_code(thinking->error, code), STATUS_UNPROCESSABLE;
}

/* ---- well-known ones ---- */

static json_t *make_printable(void)
{
    /* Python's string.printable. */
    static const char symbols[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\v\f";
    json_t *list = json_array();
    for (size_t i = 0; symbols[i] != '\0'; i++) {
        json_array_append_new(list, json_stringn(&symbols[i], 1));
    }
    return json_pack("{s:s, s:o}", "kind", "characters", "symbols", list);
}

static json_t *make_bytes(void)
{
    return json_string("bytes");
}

static const struct well_known {
    const char *name;
    const char *what;
    size_t count;
    json_t *(*make)(void);
} well_known[] = {
    {"bytes", "all 256 bytes by value", 256, make_bytes},
    {"printable", "Python's string.printable", 100, make_printable},
};

static enum status take_well_known(struct thinking *thinking, const char *name)
{
    for (size_t i = 0; i < sizeof well_known / sizeof *well_known; i++) {
        const struct well_known *row = &well_known[i];
        if (strcmp(row->name, name) != 0) {
            continue;
        }
        if (row->count != thinking->symbol_count) {
            return refuse(thinking, "wrong_vocabulary", "vocabulary=%s has %zu symbols, the matrices have %zu", name,
                          row->count, thinking->symbol_count);
        }
        thinking->vocabulary = row->make();
        return think_note(thinking, "vocabulary", row->what, "it was set");
    }
    return refuse(thinking, "wrong_vocabulary",
                  "vocabulary=%.100s is neither bytes nor printable, nor a file of the source; any file is given with "
                  "--vocabulary",
                  name);
}

/* ---- those of the files ---- */

static bool has_unknown(const struct thinking *thinking)
{
    return think_setting(thinking, "unknown") != NULL;
}

/* Symbols with what stands before those that are numbered from 1, and behind the last one. */
static size_t count_of(const struct thinking *thinking, const struct foreign_vocabulary *vocabulary)
{
    return vocabulary->count + (vocabulary->is_from_one ? 1 : 0) + (has_unknown(thinking) ? 1 : 0);
}

/* Says what was found instead: what has at least half as many symbols, or was given; fewer is no vocabulary of it. */
static enum status none_fits(const struct thinking *thinking)
{
    const struct foreign_model *model = thinking->model;
    const struct foreign_vocabulary *found = NULL;
    for (size_t i = 0; i < model->vocabulary_count && found == NULL; i++) {
        bool is_likely = thinking->is_vocabulary_given || model->vocabularies[i].count >= thinking->symbol_count / 2;
        found = is_likely ? &model->vocabularies[i] : NULL;
    }
    if (found == NULL) {
        return refuse(
            thinking, "no_vocabulary",
            "no vocabulary lies in or beside it%s%.200s%s: give the file of its %zu symbols with --vocabulary, "
            "or say --set vocabulary=bytes or printable",
            model->unsearched == NULL ? "" : " (", model->unsearched == NULL ? "" : model->unsearched,
            model->unsearched == NULL ? "" : " is too large to be searched to its end)", thinking->symbol_count);
    }
    bool lacks_one = count_of(thinking, found) + 1 == thinking->symbol_count;
    return refuse(thinking, "wrong_vocabulary",
                  "%.200s has %zu symbols, the matrices have %zu (%.200s): give the right one with --vocabulary%s",
                  found->place, count_of(thinking, found), thinking->symbol_count,
                  thinking->output == NULL ? "the last layer" : thinking->output->name,
                  lacks_one ? ", or say --set unknown=last if the last one stands for all that are not in it" : "");
}

/* The one vocabulary of the matrices' size; two that are equal are one. */
static enum status choose(const struct thinking *thinking, const struct foreign_vocabulary **ret_vocabulary)
{
    const struct foreign_model *model = thinking->model;
    const struct foreign_vocabulary *chosen = NULL;
    for (size_t i = 0; i < model->vocabulary_count; i++) {
        const struct foreign_vocabulary *vocabulary = &model->vocabularies[i];
        if (count_of(thinking, vocabulary) != thinking->symbol_count) {
            continue;
        }
        if (chosen == NULL || (chosen->problem != NULL && vocabulary->problem == NULL)) {
            chosen = vocabulary;
        } else if (vocabulary->problem == NULL && !foreign_vocabulary_equal(chosen, vocabulary)) {
            return refuse(thinking, "ambiguous",
                          "%.200s and %.200s both have %zu symbols, but others: say which with --vocabulary",
                          chosen->place, vocabulary->place, chosen->count);
        }
    }
    if (chosen == NULL) {
        return none_fits(thinking);
    }
    if (chosen->problem != NULL) {
        return refuse(thinking, "wrong_vocabulary", "%.200s: %.200s", chosen->place, chosen->problem);
    }
    *ret_vocabulary = chosen;
    return STATUS_OK;
}

static bool is_text(const struct foreign_vocabulary *vocabulary, size_t index, const char *text)
{
    return vocabulary->lengths[index] == strlen(text) && memcmp(vocabulary->symbols[index], text, strlen(text)) == 0;
}

/* A character, or a mark that may stand among such. */
static bool is_character(const struct foreign_vocabulary *vocabulary, size_t index)
{
    uint32_t code_point;
    size_t length = vocabulary->lengths[index];
    const char *symbol = vocabulary->symbols[index];
    return length > 0 && (utf8_decode(symbol, length, &code_point) == length || vocabulary_is_mark(symbol, length) ||
                          is_text(vocabulary, index, KERAS_UNKNOWN));
}

/* Characters when all are; words when most are longer; else something is damaged. */
static enum status decide_kind(struct thinking *thinking, const struct foreign_vocabulary *vocabulary,
                               const char **ret_kind)
{
    const char *set = think_setting(thinking, "vocabulary_kind");
    set = set != NULL ? set : vocabulary->kind;
    size_t longer = 0;
    size_t first = 0;
    for (size_t i = vocabulary->count; i-- > 0;) {
        bool is_longer = !is_character(vocabulary, i);
        longer += is_longer ? 1 : 0;
        first = is_longer ? i : first;
    }
    if (set != NULL) {
        *ret_kind = set;
        return STATUS_OK;
    }
    if (longer > 0 && longer <= vocabulary->count / 2) {
        int length = vocabulary->lengths[first] > 64 ? 64 : (int)vocabulary->lengths[first];
        return refuse(thinking, "wrong_vocabulary",
                      "%.200s: symbol %zu is \"%.*s\", while %zu of %zu symbols are one character: repair it and give "
                      "it with --vocabulary, or say --set vocabulary_kind=words",
                      vocabulary->place, first, length, vocabulary->symbols[first], vocabulary->count - longer,
                      vocabulary->count);
    }
    *ret_kind = longer == 0 ? "characters" : "words";
    return STATUS_OK;
}

static json_t *make_symbols(const struct thinking *thinking, const struct foreign_vocabulary *vocabulary,
                            const char *kind)
{
    json_t *list = vocabulary->is_from_one ? json_pack("[s]", PADDING) : json_array();
    bool are_characters = strcmp(kind, vocabulary_kind_name(VOCABULARY_CHARACTERS)) == 0;
    for (size_t i = 0; list != NULL && i < vocabulary->count; i++) {
        bool is_unknown = are_characters && is_text(vocabulary, i, KERAS_UNKNOWN);
        json_t *symbol = vocabulary->are_bytes ? json_integer((unsigned char)vocabulary->symbols[i][0])
                         : is_unknown          ? json_string(UNKNOWN)
                                               : json_stringn(vocabulary->symbols[i], vocabulary->lengths[i]);
        if (json_array_append_new(list, symbol) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (list != NULL && has_unknown(thinking)) {
        json_array_append_new(list, json_string(UNKNOWN));
    }
    return list;
}

/* Checks it as a load will. */
static enum status check(const struct thinking *thinking, const char *place)
{
    struct vocabulary *vocabulary = NULL;
    enum status status = vocabulary_from_json(thinking->vocabulary, &vocabulary, thinking->error);
    vocabulary_unref(vocabulary);
    if (status != STATUS_OK) {
        error_prefix(thinking->error, "%.200s", place);
    }
    return status;
}

enum status think_find_vocabulary(struct thinking *thinking)
{
    const char *set = think_setting(thinking, "vocabulary");
    const struct foreign_vocabulary *vocabulary = NULL;
    const char *kind = "bytes";
    if (set != NULL && !thinking->model->is_vocabulary_named) {
        return take_well_known(thinking, set);
    }
    const char *unknown = think_setting(thinking, "unknown");
    if (unknown != NULL && strcmp(unknown, "last") != 0) {
        return error_set(thinking->error, STATUS_INVALID, "unknown=%.60s: it can only be last", unknown);
    }
    TRY(choose(thinking, &vocabulary));
    CHECK(vocabulary != NULL);
    if (!vocabulary->are_bytes) {
        TRY(decide_kind(thinking, vocabulary, &kind));
    }
    json_t *symbols = make_symbols(thinking, vocabulary, kind);
    if (symbols == NULL) {
        return error_set(thinking->error, STATUS_UNPROCESSABLE, "%.200s: a symbol that is not UTF-8",
                         vocabulary->place);
    }
    thinking->vocabulary = json_pack("{s:s, s:o}", "kind", kind, "symbols", symbols);
    if (thinking->vocabulary == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    TRY(check(thinking, vocabulary->place));
    char text[64];
    snprintf(text, sizeof text, "%zu %s", count_of(thinking, vocabulary), kind);
    if (vocabulary->is_from_one) {
        TRY(think_note(thinking, "padding", PADDING, "%.200s numbers its %zu symbols from 1: 0 is none",
                       vocabulary->place, vocabulary->count));
    }
    if (unknown != NULL) {
        TRY(think_note(thinking, "unknown", UNKNOWN, "the last symbol: it was set"));
    }
    return think_note(thinking, "vocabulary", text, "%.200s; the matrices have as many", vocabulary->place);
}
