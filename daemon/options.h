/* The command line, as a table of rows: one for each option, read by every command. Thread: main.
 *
 * `--name VALUE`, `--name=VALUE`, flags without value, `--` before positional arguments that begin with a dash.
 * Values are checked when they are parsed, so that commands only ask for them. */
#ifndef DAEMON_OPTIONS_H
#define DAEMON_OPTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/base/status.h"

enum option_kind {
    OPTION_FLAG,   /* given or not */
    OPTION_TEXT,   /* any text, not empty; the last one given counts */
    OPTION_LIST,   /* as text, each one given counts */
    OPTION_COUNT,  /* an integer of 0 to 2^53 */
    OPTION_NUMBER, /* a finite decimal number */
    OPTION_KIND_COUNT,
};

/* One option. A table of rows ends where its count says. */
struct option_row {
    const char *name; /* without dashes: "models" */
    enum option_kind kind;
    const char *value_name;   /* for the help: "DIR"; NULL for flags */
    const char *default_text; /* what counts when it is not given; NULL: nothing */
    const char *help;         /* one line */
};

enum { OPTIONS_MAX = 80, OPTIONS_VALUES_MAX = 256, OPTIONS_POSITIONAL_MAX = 256 };

/* What was given. Borrows argv and the table; nothing to release. */
struct options {
    const struct option_row *rows;
    size_t row_count;
    struct option_value {
        const struct option_row *row;
        const char *text;
    } values[OPTIONS_VALUES_MAX];
    size_t value_count;
    const char *positional[OPTIONS_POSITIONAL_MAX];
    size_t positional_count;
};

/* Reads argv[1] to argv[argc - 1]. INVALID names the option that is unknown, lacks its value, has one it does not
 * take, or holds something else than its kind asks for. */
enum status options_parse(struct options *options, const struct option_row *rows, size_t row_count, int argc,
                          char *const *argv, struct error *error) MUST_CHECK;

/* Whether the option stood on the command line. `name` must be in the table, here and below. */
bool options_is_given(const struct options *options, const char *name);

/* The last value given, else the default, else NULL. */
const char *options_text(const struct options *options, const char *name);

/* The value number `index` of a list option, or NULL behind the last; the default does not count. */
const char *options_list(const struct options *options, const char *name, size_t index);

/* The number; the option must be given or have a default. */
uint64_t options_count(const struct options *options, const char *name);
double options_number(const struct options *options, const char *name);

/* Reads `text` as options do, for other places that take numbers from people: an integer of 0 to 2^53, or a finite
 * decimal number. INVALID says what was expected. */
enum status options_read_count(const char *text, uint64_t *ret_count, struct error *error) MUST_CHECK;
enum status options_read_number(const char *text, double *ret_number, struct error *error) MUST_CHECK;

/* Writes one line for each row: name, value, help and default. */
void options_print_help(const struct option_row *rows, size_t row_count, FILE *file);

#endif
