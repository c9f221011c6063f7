/* Reading the command line by a table. Thread: main. Owns nothing; values point into argv. */
#include "daemon/options.h"

#include <math.h>

#include "engine/base/check.h"

static const uint64_t COUNT_MAX = UINT64_C(1) << 53; /* what JSON and doubles carry exactly */

static const struct option_row *find_row(const struct option_row *rows, size_t row_count, const char *name,
                                         size_t length)
{
    for (size_t i = 0; i < row_count; i++) {
        if (strlen(rows[i].name) == length && memcmp(rows[i].name, name, length) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

enum status options_read_count(const char *text, uint64_t *ret_count, struct error *error)
{
    uint64_t count = 0;
    for (const char *digit = text; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9' || count > COUNT_MAX / 10) {
            return error_set(error, STATUS_INVALID, "'%.64s' is not an integer of 0 to 2^53", text);
        }
        count = count * 10 + (uint64_t)(*digit - '0');
    }
    if (*text == '\0' || count > COUNT_MAX) {
        return error_set(error, STATUS_INVALID, "'%.64s' is not an integer of 0 to 2^53", text);
    }
    *ret_count = count;
    return STATUS_OK;
}

enum status options_read_number(const char *text, double *ret_number, struct error *error)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(number) || strchr("+-.0123456789", text[0]) == NULL) {
        return error_set(error, STATUS_INVALID, "'%.64s' is not a number", text);
    }
    *ret_number = number;
    return STATUS_OK;
}

static enum status check_value(const struct option_row *row, const char *text, struct error *error)
{
    enum status status = STATUS_OK;
    uint64_t count;
    double number;
    if (row->kind == OPTION_COUNT) {
        status = options_read_count(text, &count, error);
    } else if (row->kind == OPTION_NUMBER) {
        status = options_read_number(text, &number, error);
    } else if (text[0] == '\0') {
        status = error_set(error, STATUS_INVALID, "the %s is empty", row->value_name);
    }
    if (status != STATUS_OK) {
        error_prefix(error, "--%s", row->name);
    }
    return status;
}

/* Takes the option at argv[*index], and its value behind it, moving the index to the last argument used. */
static enum status take_option(struct options *options, int argc, char *const *argv, int *index, struct error *error)
{
    const char *name = argv[*index] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals == NULL ? strlen(name) : (size_t)(equals - name);
    const struct option_row *row = find_row(options->rows, options->row_count, name, length);
    if (row == NULL) {
        return error_set(error, STATUS_INVALID, "unknown option --%.*s", (int)(length < 64 ? length : 64), name);
    }
    const char *text = equals == NULL ? NULL : equals + 1;
    if (row->kind == OPTION_FLAG) {
        if (text != NULL) {
            return error_set(error, STATUS_INVALID, "--%s takes no value", row->name);
        }
    } else {
        if (text == NULL && *index + 1 < argc) {
            text = argv[++*index];
        }
        if (text == NULL) {
            return error_set(error, STATUS_INVALID, "--%s needs a value: %s", row->name, row->value_name);
        }
        TRY(check_value(row, text, error));
    }
    if (options->value_count == OPTIONS_VALUES_MAX) {
        return error_set(error, STATUS_INVALID, "more than %d options", OPTIONS_VALUES_MAX);
    }
    options->values[options->value_count++] = (struct option_value){.row = row, .text = text};
    return STATUS_OK;
}

enum status options_parse(struct options *options, const struct option_row *rows, size_t row_count, int argc,
                          char *const *argv, struct error *error)
{
    CHECK(row_count <= OPTIONS_MAX);
    memset(options, 0, sizeof *options);
    options->rows = rows;
    options->row_count = row_count;
    bool only_positional = false;
    for (int i = 1; i < argc; i++) {
        if (!only_positional && strcmp(argv[i], "--") == 0) {
            only_positional = true;
        } else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
            TRY(take_option(options, argc, argv, &i, error));
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1] != '\0') {
            return error_set(error, STATUS_INVALID, "unknown option %.64s: options begin with two dashes", argv[i]);
        } else if (options->positional_count == OPTIONS_POSITIONAL_MAX) {
            return error_set(error, STATUS_INVALID, "more than %d arguments", OPTIONS_POSITIONAL_MAX);
        } else {
            options->positional[options->positional_count++] = argv[i];
        }
    }
    return STATUS_OK;
}

static const struct option_row *known_row(const struct options *options, const char *name)
{
    const struct option_row *row = find_row(options->rows, options->row_count, name, strlen(name));
    CHECK(row != NULL);
    return row;
}

bool options_is_given(const struct options *options, const char *name)
{
    const struct option_row *row = known_row(options, name);
    for (size_t i = 0; i < options->value_count; i++) {
        if (options->values[i].row == row) {
            return true;
        }
    }
    return false;
}

const char *options_text(const struct options *options, const char *name)
{
    const struct option_row *row = known_row(options, name);
    for (size_t i = options->value_count; i > 0; i--) {
        if (options->values[i - 1].row == row) {
            return options->values[i - 1].text;
        }
    }
    return row->default_text;
}

const char *options_list(const struct options *options, const char *name, size_t index)
{
    const struct option_row *row = known_row(options, name);
    CHECK(row->kind == OPTION_LIST);
    for (size_t i = 0; i < options->value_count; i++) {
        if (options->values[i].row == row && index-- == 0) {
            return options->values[i].text;
        }
    }
    return NULL;
}

uint64_t options_count(const struct options *options, const char *name)
{
    CHECK(known_row(options, name)->kind == OPTION_COUNT);
    uint64_t count = 0;
    CHECK(options_read_count(options_text(options, name), &count, NULL) == STATUS_OK);
    return count;
}

double options_number(const struct options *options, const char *name)
{
    CHECK(known_row(options, name)->kind == OPTION_NUMBER);
    double number = 0;
    CHECK(options_read_number(options_text(options, name), &number, NULL) == STATUS_OK);
    return number;
}

void options_print_help(const struct option_row *rows, size_t row_count, FILE *file)
{
    for (size_t i = 0; i < row_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", rows[i].name, rows[i].value_name == NULL ? "" : " ",
                 rows[i].value_name == NULL ? "" : rows[i].value_name);
        fprintf(file, "  %-30s %s", left, rows[i].help);
        if (rows[i].default_text != NULL) {
            fprintf(file, " (%s)", rows[i].default_text);
        }
        fputs(rows[i].kind == OPTION_LIST ? "; may be repeated\n" : "\n", file);
    }
}
