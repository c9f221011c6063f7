/* The commands of the one binary: rows of main.c's table. Each gets argv with its own name first and returns the
 * process's exit status. Thread: main. */
#ifndef DAEMON_COMMANDS_H
#define DAEMON_COMMANDS_H

#include <stddef.h>

#include "daemon/model_reference.h"
#include "daemon/options.h"

enum {
    EXIT_DONE = 0,
    EXIT_FAILED = 1, /* one line on standard error says what and where */
    EXIT_USAGE = 2,  /* the arguments are wrong */
};

/* Parses a command's arguments. False when it ends here, with *ret_exit set: --help was printed, or the arguments are
 * wrong and one line on standard error said so. `synopsis` is what follows the command's name: "CORPUS… --out DIR". */
bool command_parse(struct options *options, const struct option_row *rows, size_t row_count, const char *synopsis,
                   size_t positional_min, size_t positional_max, int argc, char **argv, int *ret_exit);

/* command_parse for a command whose first argument is MODELS/NAME[@VERSION], which it reads too; it takes
 * `positional_count` of them. */
bool command_parse_model(struct options *options, const struct option_row *rows, size_t row_count, const char *synopsis,
                         size_t positional_count, int argc, char **argv, struct model_reference *ret_reference,
                         int *ret_exit);

/* Prints `json` as one line to standard output, reals with `digits` digits, or 0: all. NULL is no memory, as is the
 * want of it here: NO_MEMORY. */
enum status command_print_json(const json_t *json, size_t digits, struct error *error) MUST_CHECK;

/* Prints "lstmd COMMAND: message" to standard error and returns EXIT_FAILED. */
int command_fail(const char *command, const struct error *error);

/* The commands; each file command_NAME.c has one. */
int command_serve(int argc, char **argv);
int command_train(int argc, char **argv);
int command_sample(int argc, char **argv);
int command_score(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_import(int argc, char **argv);
int command_key(int argc, char **argv);
int command_import_reader(int argc, char **argv);
int command_export(int argc, char **argv);

#endif
