/* What all commands do alike: reading their arguments and saying why they failed. Thread: main. Owns nothing. */
#include "daemon/commands.h"

bool command_parse(struct options *options, const struct option_row *rows, size_t row_count, const char *synopsis,
                   size_t positional_min, size_t positional_max, int argc, char **argv, int *ret_exit)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            printf("usage: lstmd %s %s\n\n", argv[0], synopsis);
            options_print_help(rows, row_count, stdout);
            *ret_exit = EXIT_DONE;
            return false;
        }
    }
    struct error error;
    enum status status = options_parse(options, rows, row_count, argc, argv, &error);
    if (status == STATUS_OK && options->positional_count < positional_min) {
        status = error_set(&error, STATUS_INVALID, "an argument is missing: lstmd %s %s", argv[0], synopsis);
    } else if (status == STATUS_OK && options->positional_count > positional_max) {
        status =
            error_set(&error, STATUS_INVALID, "'%.200s' is one argument too many", options->positional[positional_max]);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "lstmd %s: %s\n", argv[0], error.message);
        *ret_exit = EXIT_USAGE;
        return false;
    }
    return true;
}

bool command_parse_model(struct options *options, const struct option_row *rows, size_t row_count, const char *synopsis,
                         size_t positional_count, int argc, char **argv, struct model_reference *ret_reference,
                         int *ret_exit)
{
    if (!command_parse(options, rows, row_count, synopsis, positional_count, positional_count, argc, argv, ret_exit)) {
        return false;
    }
    struct error error;
    if (model_reference_parse(options->positional[0], ret_reference, &error) != STATUS_OK) {
        command_fail(argv[0], &error);
        *ret_exit = EXIT_USAGE;
        return false;
    }
    return true;
}

enum status command_print_json(const json_t *json, size_t digits, struct error *error)
{
    char *line = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(digits));
    if (line == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for the reply");
    }
    puts(line);
    fflush(stdout);
    free(line); /* jansson's own */
    return STATUS_OK;
}

int command_fail(const char *command, const struct error *error)
{
    fprintf(stderr, "lstmd %s: %s\n", command, error->message);
    return EXIT_FAILED;
}
