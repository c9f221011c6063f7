/* Reading the configuration by the table of settings.def. Thread: as the caller's; owns nothing. */
#include "daemon/settings.h"

#include <stddef.h>

#include "daemon/ini_file.h"
#include "engine/base/check.h"

#define ROW(row_name, row_kind, row_when, initial, low, high, words, row_help)                                         \
    {.name = #row_name,                                                                                                \
     .kind = row_kind,                                                                                                 \
     .when = WHEN_##row_when,                                                                                          \
     .offset = offsetof(struct settings, row_name),                                                                    \
     .default_text = initial,                                                                                          \
     .min = low,                                                                                                       \
     .max = high,                                                                                                      \
     .choices = words,                                                                                                 \
     .help = row_help},
#define SETTING_TEXT(name, initial, when, help) ROW(name, KIND_TEXT, when, initial, 0, 0, NULL, help)
#define SETTING_LIST(name, initial, when, help) ROW(name, KIND_LIST, when, initial, 0, 0, NULL, help)
#define SETTING_COUNT(name, initial, min, max, when, help) ROW(name, KIND_COUNT, when, initial, min, max, NULL, help)
#define SETTING_BYTES(name, initial, min, max, when, help) ROW(name, KIND_BYTES, when, initial, min, max, NULL, help)
#define SETTING_FLAG(name, initial, when, help) ROW(name, KIND_FLAG, when, initial, 0, 1, NULL, help)
#define SETTING_CHOICE(name, initial, choices, when, help) ROW(name, KIND_CHOICE, when, initial, 0, 0, choices, help)

static const struct setting table[] = {
#include "daemon/settings.def"
};
enum { SETTING_TABLE_COUNT = sizeof table / sizeof *table };

const struct setting *settings_table(size_t *ret_count)
{
    *ret_count = SETTING_TABLE_COUNT;
    return table;
}

static const struct setting *find(const char *name)
{
    for (size_t i = 0; i < SETTING_TABLE_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void *place(struct settings *settings, const struct setting *row)
{
    return (char *)settings + row->offset;
}

static enum status read_integer(const struct setting *row, const char *text, uint64_t *ret_number, struct error *error)
{
    uint64_t number = 0;
    const char *digit = text;
    bool is_good = *digit >= '0' && *digit <= '9';
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        is_good = is_good && number <= (UINT64_MAX - 9) / 10;
        number = is_good ? number * 10 + (uint64_t)(*digit - '0') : number;
    }
    unsigned shift = *digit == 'K' ? 10 : *digit == 'M' ? 20 : *digit == 'G' ? 30 : 0;
    if (row->kind == KIND_BYTES && shift > 0 && digit[1] == '\0') {
        is_good = is_good && number <= UINT64_MAX >> shift;
        number <<= shift;
    } else {
        is_good = is_good && *digit == '\0';
    }
    if (!is_good || number < row->min || number > row->max) {
        return error_set(error, STATUS_INVALID, "%s is '%.64s', expected an integer of %llu to %llu%s", row->name, text,
                         (unsigned long long)row->min, (unsigned long long)row->max,
                         row->kind == KIND_BYTES ? ", perhaps with K, M or G" : "");
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status read_choice(const struct setting *row, const char *text, uint64_t *ret_index, struct error *error)
{
    char word[SETTING_TEXT_BYTES_MAX];
    for (size_t i = 0; settings_list_item(row->choices, i, word); i++) {
        if (strcmp(word, text) == 0) {
            *ret_index = i;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, "%s is '%.64s', expected one of: %s", row->name, text, row->choices);
}

static enum status read_flag(const struct setting *row, const char *text, bool *ret_flag, struct error *error)
{
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0) {
        return error_set(error, STATUS_INVALID, "%s is '%.64s', expected yes or no", row->name, text);
    }
    *ret_flag = text[0] == 'y';
    return STATUS_OK;
}

static enum status read_text(const struct setting *row, const char *text, char *ret_text, struct error *error)
{
    size_t length = strlen(text);
    if (length >= SETTING_TEXT_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "%s has %zu bytes, at most %d", row->name, length,
                         SETTING_TEXT_BYTES_MAX - 1);
    }
    memcpy(ret_text, text, length + 1);
    return STATUS_OK;
}

static enum status set_row(struct settings *settings, const struct setting *row, const char *text, struct error *error)
{
    void *value = place(settings, row);
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_LIST: return read_text(row, text, value, error);
    case KIND_COUNT:
    case KIND_BYTES: return read_integer(row, text, value, error);
    case KIND_FLAG: return read_flag(row, text, value, error);
    case KIND_CHOICE: return read_choice(row, text, value, error);
    case KIND_COUNT_OF_KINDS: break;
    }
    CHECK(false);
}

void settings_init(struct settings *settings)
{
    memset(settings, 0, sizeof *settings);
    for (size_t i = 0; i < SETTING_TABLE_COUNT; i++) {
        CHECK(set_row(settings, &table[i], table[i].default_text, NULL) == STATUS_OK);
    }
}

enum status settings_set(struct settings *settings, const char *name, const char *text, struct error *error)
{
    const struct setting *row = find(name);
    if (row == NULL) {
        return error_set(error, STATUS_INVALID, "unknown setting '%.64s'", name);
    }
    return set_row(settings, row, text, error);
}

struct reading {
    struct settings *settings;
    bool is_given[SETTING_TABLE_COUNT];
};

/* A list given again grows; anything else given again is a mistake. */
static enum status take_line(void *context, const char *section, const char *name, const char *text,
                             struct error *error)
{
    struct reading *reading = context;
    const struct setting *row = find(name);
    if (section[0] != '\0') {
        return error_set(error, STATUS_INVALID, "section [%.64s]: there are none", section);
    }
    if (row == NULL) {
        return error_set(error, STATUS_INVALID, "unknown setting '%.64s'", name);
    }
    bool was_given = reading->is_given[row - table];
    reading->is_given[row - table] = true;
    if (!was_given) {
        return set_row(reading->settings, row, text, error);
    }
    if (row->kind != KIND_LIST) {
        return error_set(error, STATUS_INVALID, "%s is given twice", name);
    }
    char longer[2 * SETTING_TEXT_BYTES_MAX];
    snprintf(longer, sizeof longer, "%s %.*s", (const char *)place(reading->settings, row), SETTING_TEXT_BYTES_MAX,
             text);
    return set_row(reading->settings, row, longer, error);
}

enum status settings_read(struct settings *settings, const char *path, struct error *error)
{
    struct settings fresh;
    settings_init(&fresh);
    struct reading reading = {.settings = &fresh};
    TRY(ini_file_read(path, "configuration", take_line, &reading, error));
    *settings = fresh;
    return STATUS_OK;
}

size_t settings_adopt(struct settings *settings, const struct settings *fresh, char *names, size_t bytes_max)
{
    size_t count = 0;
    names[0] = '\0';
    for (size_t i = 0; i < SETTING_TABLE_COUNT; i++) {
        size_t bytes = table[i].kind == KIND_FLAG                                 ? sizeof(bool)
                       : table[i].kind == KIND_TEXT || table[i].kind == KIND_LIST ? SETTING_TEXT_BYTES_MAX
                                                                                  : sizeof(uint64_t);
        void *ours = place(settings, &table[i]);
        const void *theirs = (const char *)fresh + table[i].offset;
        if (table[i].when == WHEN_RELOAD) {
            memcpy(ours, theirs, bytes);
        } else if (bytes == SETTING_TEXT_BYTES_MAX ? strcmp(ours, theirs) != 0 : memcmp(ours, theirs, bytes) != 0) {
            size_t used = strlen(names);
            snprintf(names + used, bytes_max - used, "%s%s", used == 0 ? "" : " ", table[i].name);
            count++;
        }
    }
    return count;
}

bool settings_list_item(const char *list, size_t index, char item[SETTING_TEXT_BYTES_MAX])
{
    for (;;) {
        list += strspn(list, " \t");
        size_t length = strcspn(list, " \t");
        if (length == 0) {
            return false;
        }
        if (index-- == 0) {
            CHECK(length < SETTING_TEXT_BYTES_MAX);
            memcpy(item, list, length);
            item[length] = '\0';
            return true;
        }
        list += length;
    }
}

bool settings_list_contains(const char *list, const char *text)
{
    char item[SETTING_TEXT_BYTES_MAX];
    for (size_t i = 0; settings_list_item(list, i, item); i++) {
        if (strcmp(item, text) == 0) {
            return true;
        }
    }
    return false;
}
