/* Finding symbols in plain data. Thread: the one that reads. Everything is in the model's arena.
 *
 * A dictionary of strings and whole numbers, either way round, gives each number's string; a list of strings its items
 * in order; a string its characters, if there are 10 to 10,000 and no two alike, or what it holds as JSON. The order of
 * a set is any that Python had: it is kept as what cannot be one, and so is what has a symbol twice. Whether they
 * fit a model is decided later, by its matrices. */
#include "engine/base/mem.h"
#include "engine/import/vocabulary_places.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"

enum {
    DEPTH_MAX = 6,
    STEPS_MAX = 16 << 20, /* an item, or bytes of a string: */
    STEP_BYTES = 16,
    SYMBOLS_MIN = 2,
    STRING_SYMBOLS_MIN = 10,
    STRING_SYMBOLS_MAX = 10000,
    PROBLEM_BYTES_MAX = 256,
    METADATA_BYTES_MAX = 16 << 20, /* of a text, and of all strings of JSON, each time that one is met */
};

struct search {
    struct foreign_model *model;
    const char *place;
    size_t steps;
    size_t json_bytes;   /* of strings that were read as JSON */
    unsigned char *seen; /* a bit for each code point, none set between calls; NULL: not yet needed */
    struct vocabulary_places places;
    struct foreign_vocabulary *kept; /* the last one; NULL: there was no place for it */
};

/* One vocabulary being put together. */
struct draft {
    const char **symbols; /* [count]; NULL: not there yet */
    size_t *lengths;
    size_t count;
    bool is_from_one;
    char problem[PROBLEM_BYTES_MAX];
};

static enum status make_draft(struct search *search, size_t count, struct draft *ret_draft, struct error *error)
{
    struct arena *arena = &search->model->arena;
    *ret_draft = (struct draft){.symbols = arena_allocate(arena, count, sizeof(char *)),
                                .lengths = arena_allocate(arena, count, sizeof(size_t)),
                                .count = count};
    return ret_draft->symbols == NULL || ret_draft->lengths == NULL ? foreign_no_memory(search->model, error)
                                                                    : STATUS_OK;
}

static void put(struct draft *draft, int64_t index, const struct plain *symbol)
{
    if (draft->problem[0] != '\0') {
        return;
    }
    if (index < 0 || (uint64_t)index >= draft->count) {
        snprintf(draft->problem, sizeof draft->problem, "%zu symbols, but one has the number %lld, not 0 to %zu",
                 draft->count, (long long)index, draft->count - 1);
    } else if (draft->symbols[index] != NULL) {
        snprintf(draft->problem, sizeof draft->problem, "two symbols have the number %lld", (long long)index);
    } else {
        draft->symbols[index] = symbol->text;
        draft->lengths[index] = symbol->length;
    }
}

/* Begins a draft; `*ret_has_place` false: there is no place to keep it. */
static enum status begin_draft(struct search *search, size_t count, struct draft *ret_draft, bool *ret_has_place,
                               struct error *error)
{
    struct foreign_vocabulary *place = NULL;
    TRY(vocabulary_places_find(&search->places, count, &place, error));
    *ret_has_place = place != NULL;
    return place == NULL ? STATUS_OK : make_draft(search, count, ret_draft, error);
}

/* A symbol by its text and number. */
struct numbered {
    const char *symbol;
    size_t length;
    size_t number;
};

static int by_symbol(const void *left, const void *right)
{
    const struct numbered *a = left;
    const struct numbered *b = right;
    int order = memcmp(a->symbol, b->symbol, a->length < b->length ? a->length : b->length);
    order = order != 0 ? order : (a->length > b->length) - (a->length < b->length);
    return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

/* What has a symbol twice is a text in words, or damaged. */
static enum status check_different(const struct search *search, struct draft *draft, struct error *error)
{
    struct numbered *sorted = mem_allocate(draft->count, sizeof *sorted);
    if (sorted == NULL) {
        return foreign_no_memory(search->model, error);
    }
    for (size_t i = 0; i < draft->count; i++) {
        sorted[i] = (struct numbered){draft->symbols[i], draft->lengths[i], i};
    }
    qsort(sorted, draft->count, sizeof *sorted, by_symbol);
    for (size_t i = 1; i < draft->count && draft->problem[0] == '\0'; i++) {
        const struct numbered *first = &sorted[i - 1];
        if (first->length == sorted[i].length && memcmp(first->symbol, sorted[i].symbol, first->length) == 0) {
            snprintf(draft->problem, sizeof draft->problem, "symbol %zu, \"%.*s\", is symbol %zu already",
                     sorted[i].number, first->length > 64 ? 64 : (int)first->length, first->symbol, first->number);
        }
    }
    mem_free(sorted);
    return STATUS_OK;
}

/* Keeps the draft as one of the model's vocabularies. */
static enum status keep(struct search *search, struct draft *draft, struct error *error)
{
    struct foreign_model *model = search->model;
    TRY(vocabulary_places_find(&search->places, draft->count, &search->kept, error));
    if (search->kept == NULL) {
        return STATUS_OK;
    }
    if (draft->problem[0] == '\0') {
        TRY(check_different(search, draft, error));
    }
    struct foreign_vocabulary vocabulary = {.place = search->place,
                                            .symbols = draft->symbols,
                                            .lengths = draft->lengths,
                                            .count = draft->count,
                                            .is_from_one = draft->is_from_one};
    if (draft->problem[0] != '\0') {
        vocabulary.problem = arena_copy_string(&model->arena, draft->problem);
        if (vocabulary.problem == NULL) {
            return foreign_no_memory(model, error);
        }
    } else {
        bool are_single = true;
        bool are_text = true;
        for (size_t i = 0; i < draft->count; i++) {
            are_single = are_single && draft->lengths[i] == 1;
            are_text = are_text && utf8_find_malformed(draft->symbols[i], draft->lengths[i]) == draft->lengths[i];
        }
        vocabulary.are_bytes = are_single && !are_text;
    }
    vocabulary_places_keep(&search->places, search->kept, &vocabulary);
    return STATUS_OK;
}

/* ---- kinds of them ---- */

/* A whole number, or in JSON, whose keys are strings, one in decimal. */
static bool read_index(const struct plain *value, int64_t *ret_index)
{
    if (plain_integer(value, ret_index)) {
        return true;
    }
    if (!plain_is_string(value) || value->length == 0 || value->length > 9) {
        return false;
    }
    int64_t index = 0;
    for (size_t i = 0; i < value->length; i++) {
        if (value->text[i] < '0' || value->text[i] > '9') {
            return false;
        }
        index = index * 10 + (value->text[i] - '0');
    }
    *ret_index = index;
    return true;
}

enum direction { DIRECTION_NONE, DIRECTION_TO_NUMBER, DIRECTION_TO_SYMBOL };

static enum direction direction_of(const struct plain *dict)
{
    bool to_number = true;
    bool to_symbol = true;
    int64_t ignored;
    for (uint32_t i = 0; i + 1 < dict->count && (to_number || to_symbol); i += 2) {
        const struct plain *key = dict->items[i];
        const struct plain *value = dict->items[i + 1];
        to_number = to_number && plain_is_string(key) && plain_integer(value, &ignored);
        to_symbol = to_symbol && plain_is_string(value) && read_index(key, &ignored);
    }
    return dict->count < 2 * SYMBOLS_MIN ? DIRECTION_NONE
           : to_number                   ? DIRECTION_TO_NUMBER
           : to_symbol                   ? DIRECTION_TO_SYMBOL
                                         : DIRECTION_NONE;
}

/* The least and the greatest number of a dictionary, whose items at `number_at` they are. */
static void find_range(const struct plain *dict, size_t number_at, int64_t *ret_least, int64_t *ret_most)
{
    int64_t index = -1;
    *ret_least = INT64_MAX;
    *ret_most = -1;
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        read_index(dict->items[i + number_at], &index);
        *ret_least = index < *ret_least ? index : *ret_least;
        *ret_most = index > *ret_most ? index : *ret_most;
    }
}

static enum status take_dict(struct search *search, const struct plain *dict, enum direction direction,
                             struct error *error)
{
    struct draft draft;
    bool has_place = false;
    TRY(begin_draft(search, dict->count / 2, &draft, &has_place, error));
    if (!has_place) {
        return STATUS_OK;
    }
    size_t number_at = direction == DIRECTION_TO_NUMBER ? 1 : 0;
    int64_t least;
    int64_t most;
    int64_t index = -1;
    find_range(dict, number_at, &least, &most);
    bool is_from_one = least == 1 && most == (int64_t)draft.count;
    draft.is_from_one = is_from_one && !search->model->counts_from_one;
    for (uint32_t i = 0; i + 1 < dict->count; i += 2) {
        read_index(dict->items[i + number_at], &index);
        put(&draft, index - (is_from_one ? 1 : 0), dict->items[i + 1 - number_at]);
    }
    return keep(search, &draft, error);
}

bool foreign_numbers_symbols(const struct plain *root)
{
    int64_t least;
    int64_t most;
    if (root->kind != PLAIN_DICT || direction_of(root) != DIRECTION_TO_NUMBER) {
        return false;
    }
    find_range(root, 1, &least, &most);
    return (least == 0 || least == 1) && most == (int64_t)(root->count / 2) - 1 + least;
}

static bool is_list_of_strings(const struct plain *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (!plain_is_string(list->items[i])) {
            return false;
        }
    }
    return list->count >= SYMBOLS_MIN;
}

static enum status take_list(struct search *search, const struct plain *list, struct error *error)
{
    struct draft draft;
    bool has_place = false;
    TRY(begin_draft(search, list->count, &draft, &has_place, error));
    for (uint32_t i = 0; i < list->count && has_place; i++) {
        put(&draft, i, list->items[i]);
    }
    return has_place ? keep(search, &draft, error) : STATUS_OK;
}

static enum status take_set(struct search *search, const struct plain *set, struct error *error)
{
    struct draft draft = {.count = set->count,
                          .problem = "it is a Python set, which gives its symbols no numbers: their order when "
                                     "the model was made is needed, as a list or dictionary"};
    return is_list_of_strings(set) && set->count <= VOCABULARY_SYMBOLS_MAX ? keep(search, &draft, error) : STATUS_OK;
}

static const char *text_of(const struct plain *dict, const char *key)
{
    const struct plain *value = dict->kind == PLAIN_DICT ? plain_get(dict, key) : NULL;
    return value != NULL && plain_is_string(value) ? value->text : NULL;
}

/* Bytes by their values; without a list all of them. */
static enum status take_bytes(struct search *search, const struct plain *list, struct error *error)
{
    enum { BYTES = 256 };
    struct draft draft;
    bool has_place = false;
    size_t count = list == NULL ? BYTES : list->count;
    char *bytes = arena_allocate(&search->model->arena, BYTES + 1, 1);
    if (bytes == NULL) {
        return foreign_no_memory(search->model, error);
    }
    if (count <= BYTES) {
        TRY(begin_draft(search, count, &draft, &has_place, error));
    }
    if (!has_place) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t value = (int64_t)i;
        if (list != NULL && (!plain_integer(list->items[i], &value) || value < 0 || value >= BYTES)) {
            return STATUS_OK;
        }
        bytes[i] = (char)value;
        draft.symbols[i] = &bytes[i];
        draft.lengths[i] = 1;
    }
    TRY(keep(search, &draft, error));
    if (search->kept != NULL) {
        search->kept->are_bytes = true;
    }
    return STATUS_OK;
}

/* A vocab.json of our own: {"kind":"words","symbols":[…]}. */
static enum status take_own(struct search *search, const struct plain *dict, const char *kind, struct error *error)
{
    const struct plain *list = plain_get(dict, "symbols");
    search->kept = NULL;
    if (list != NULL && list->kind != PLAIN_LIST) {
        return STATUS_OK;
    }
    if (strcmp(kind, vocabulary_kind_name(VOCABULARY_BYTES)) == 0) {
        return take_bytes(search, list, error);
    }
    if (list != NULL && is_list_of_strings(list) && list->count <= VOCABULARY_SYMBOLS_MAX) {
        TRY(take_list(search, list, error));
    }
    if (search->kept != NULL) {
        search->kept->kind = kind;
    }
    return STATUS_OK;
}

static enum status walk(struct search *search, const struct plain *value, size_t depth, struct error *error);

/* Whether no character stands twice in a string of UTF-8. NO_MEMORY. */
static enum status are_all_different(struct search *search, const struct plain *string, bool *ret_are,
                                     struct error *error)
{
    enum { CODE_POINTS = 0x110000 };
    uint32_t code_point;
    size_t end = 0;
    bool are = true;
    if (search->seen == NULL) {
        search->seen = mem_allocate(CODE_POINTS / 8, 1);
    }
    if (search->seen == NULL) {
        return foreign_no_memory(search->model, error);
    }
    while (end < string->length && are) {
        size_t length = utf8_decode(string->text + end, string->length - end, &code_point);
        are = (search->seen[code_point / 8] >> code_point % 8 & 1) == 0;
        search->seen[code_point / 8] |= (unsigned char)(1 << code_point % 8);
        end += length;
    }
    for (size_t at = 0; at < end;) {
        at += utf8_decode(string->text + at, string->length - at, &code_point);
        search->seen[code_point / 8] = 0;
    }
    *ret_are = are;
    return STATUS_OK;
}

/* "abc…": each character is a symbol; elsewhere such strings are names, paths and the like. */
static enum status take_characters(struct search *search, const struct plain *string, struct error *error)
{
    struct draft draft;
    bool has_place = false;
    bool is_short = string->length <= (size_t)STRING_SYMBOLS_MAX * UTF8_BYTES_MAX;
    size_t count = is_short ? utf8_count(string->text, string->length) : 0;
    size_t at = 0;
    bool are_different = false;
    if (count < STRING_SYMBOLS_MIN || count > STRING_SYMBOLS_MAX ||
        utf8_find_malformed(string->text, string->length) < string->length) {
        return STATUS_OK;
    }
    TRY(are_all_different(search, string, &are_different, error));
    if (are_different) {
        TRY(begin_draft(search, count, &draft, &has_place, error));
    }
    if (!has_place) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t code_point;
        draft.symbols[i] = string->text + at;
        draft.lengths[i] = utf8_decode(string->text + at, string->length - at, &code_point);
        at += draft.lengths[i];
    }
    return keep(search, &draft, error);
}

/* Keras' Tokenizer.to_json() keeps dictionaries as JSON within JSON. */
static enum status take_string(struct search *search, const struct plain *string, size_t depth, struct error *error)
{
    bool is_json = string->length >= 2 && (string->text[0] == '{' || string->text[0] == '[') &&
                   string->length <= METADATA_BYTES_MAX - search->json_bytes;
    search->json_bytes += is_json ? string->length : 0;
    json_t *json = is_json ? json_loadb(string->text, string->length, JSON_ALLOW_NUL, NULL) : NULL;
    if (json == NULL) {
        return take_characters(search, string, error);
    }
    struct plain *root = plain_from_json(&search->model->arena, json);
    json_decref(json);
    return root == NULL ? foreign_no_memory(search->model, error) : walk(search, root, depth + 1, error);
}

/* Numbers and the like hold nothing. */
static bool is_searched(const struct plain *value)
{
    return plain_is_string(value) || value->kind == PLAIN_LIST || value->kind == PLAIN_SET ||
           value->kind == PLAIN_DICT || value->kind == PLAIN_CALL;
}

static enum status walk(struct search *search, const struct plain *value, size_t depth, struct error *error)
{
    if (value == NULL || depth > DEPTH_MAX || search->steps > STEPS_MAX || !is_searched(value)) {
        return STATUS_OK;
    }
    if (plain_is_string(value)) {
        search->steps += 1 + value->length / STEP_BYTES;
        return take_string(search, value, depth, error);
    }
    search->steps += 1 + value->count;
    if (value->kind == PLAIN_SET) {
        return take_set(search, value, error);
    }
    if (value->kind == PLAIN_LIST && is_list_of_strings(value)) {
        return value->count <= VOCABULARY_SYMBOLS_MAX ? take_list(search, value, error) : STATUS_OK;
    }
    enum vocabulary_kind ignored;
    const char *kind = text_of(value, "kind");
    if (kind != NULL && vocabulary_kind_from_name(kind, &ignored)) {
        return take_own(search, value, kind, error);
    }
    enum direction direction = value->kind == PLAIN_DICT ? direction_of(value) : DIRECTION_NONE;
    if (direction != DIRECTION_NONE) {
        return value->count / 2 <= VOCABULARY_SYMBOLS_MAX ? take_dict(search, value, direction, error) : STATUS_OK;
    }
    const char *place = search->place;
    for (uint32_t i = 0; i < value->count && search->steps <= STEPS_MAX; i++) {
        const struct plain *key = value->kind != PLAIN_LIST && i % 2 == 1 ? value->items[i - 1] : NULL;
        if (key != NULL && plain_is_string(key) && key->length < 100 && depth < 2 && is_searched(value->items[i])) {
            search->place = arena_format(&search->model->arena, "%s, %s", place, key->text);
            if (search->place == NULL) {
                return foreign_no_memory(search->model, error);
            }
        }
        TRY(walk(search, value->items[i], depth + 1, error));
        search->place = place;
    }
    return value->kind == PLAIN_CALL ? walk(search, value->state, depth + 1, error) : STATUS_OK;
}

enum status foreign_add_vocabularies(struct foreign_model *model, const char *place, const struct plain *root,
                                     struct error *error)
{
    struct search search = {
        .model = model, .place = arena_copy_string(&model->arena, place), .places = {.model = model}};
    if (search.place == NULL) {
        return foreign_no_memory(model, error);
    }
    enum status status = walk(&search, root, 0, error);
    mem_free(search.seen);
    vocabulary_places_release(&search.places);
    model->unsearched = search.steps > STEPS_MAX ? search.place : model->unsearched;
    return status;
}

enum status foreign_add_metadata(struct foreign_model *model, const char *key, const char *text, struct error *error)
{
    json_t *json = strlen(text) > METADATA_BYTES_MAX ? NULL : json_loads(text, JSON_ALLOW_NUL, NULL);
    enum status status = foreign_add_hint(model, NULL, key, text, error);
    if (status == STATUS_OK && json != NULL) {
        struct plain *root = plain_from_json(&model->arena, json);
        status = root == NULL ? foreign_no_memory(model, error) : foreign_add_vocabularies(model, key, root, error);
    }
    json_decref(json);
    return status;
}
