/* The configuration: one struct, filled from settings.def's defaults, the configuration file and the command line.
 * Thread: main at start, then the loop. Plain values; texts are in the struct, nothing to release. */
#ifndef DAEMON_SETTINGS_H
#define DAEMON_SETTINGS_H

#include <stdint.h>

#include "engine/base/status.h"

enum { SETTING_TEXT_BYTES_MAX = 2048 };

struct settings {
#define SETTING_TEXT(name, initial, when, help) char name[SETTING_TEXT_BYTES_MAX];
#define SETTING_LIST(name, initial, when, help) char name[SETTING_TEXT_BYTES_MAX];
#define SETTING_COUNT(name, initial, min, max, when, help) uint64_t name;
#define SETTING_BYTES(name, initial, min, max, when, help) uint64_t name;
#define SETTING_FLAG(name, initial, when, help) bool name;
#define SETTING_CHOICE(name, initial, choices, when, help) uint64_t name; /* index into `choices` */
#include "daemon/settings.def"
#undef SETTING_TEXT
#undef SETTING_LIST
#undef SETTING_COUNT
#undef SETTING_BYTES
#undef SETTING_FLAG
#undef SETTING_CHOICE
};

enum setting_kind { KIND_TEXT, KIND_LIST, KIND_COUNT, KIND_BYTES, KIND_FLAG, KIND_CHOICE, KIND_COUNT_OF_KINDS };
enum setting_when { WHEN_START, WHEN_RELOAD };

struct setting {
    const char *name;
    enum setting_kind kind;
    enum setting_when when;
    size_t offset; /* into struct settings */
    const char *default_text;
    uint64_t min, max;   /* COUNT and BYTES */
    const char *choices; /* CHOICE: words separated by a space */
    const char *help;
};

/* The table. */
const struct setting *settings_table(size_t *ret_count);

/* All defaults. */
void settings_init(struct settings *settings);

/* Defaults, then the file (libinih: `name = value` lines, # and ; comments). An unknown name, a bad value, a name
 * given twice or a section is INVALID with a message that begins with file and line; unreadable: NOT_FOUND or IO. */
enum status settings_read(struct settings *settings, const char *path, struct error *error) MUST_CHECK;

/* Sets one by its text, replacing what was there. INVALID names the setting and what it takes. */
enum status settings_set(struct settings *settings, const char *name, const char *text, struct error *error) MUST_CHECK;

/* Takes over from `fresh` all settings that may change while running. Returns how many others differ, and their names,
 * separated by a space and cut to `bytes_max`, in `names`. */
size_t settings_adopt(struct settings *settings, const struct settings *fresh, char *names, size_t bytes_max);

/* Copies the item number `index` of a list to `item`; false behind the last. */
bool settings_list_item(const char *list, size_t index, char item[SETTING_TEXT_BYTES_MAX]);

/* Whether `text` is an item of the list. */
bool settings_list_contains(const char *list, const char *text);

#endif
