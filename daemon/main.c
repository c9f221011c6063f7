/* Entry of the lstmd binary: finds the command by its name and runs it. Thread: main. Owns nothing. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "daemon/commands.h"
#include "engine/engine.h"

static const struct command {
    const char *name;
    const char *help;
    int (*function)(int argc, char **argv);
} commands[] = {
    {"serve", "serve models over HTTP", command_serve},
    {"train", "train a model on a text", command_train},
    {"sample", "generate text", command_sample},
    {"score", "measure how well a model predicts a text", command_score},
    {"inspect", "say what a model is", command_inspect},
    {"bench", "measure decoding, training or serving on this machine", command_bench},
    {"import", "read a model of another framework", command_import},
    {"import-reader", NULL, command_import_reader}, /* for import and inspect alone */
    {"export", "write a model for another framework", command_export},
    {"key", "make a key for the key file", command_key},
};

static void print_help(FILE *file)
{
    fputs("lstmd trains, serves and hot-reloads LSTM text models.\n\nusage: lstmd COMMAND [OPTION]…\n\n", file);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (commands[i].help != NULL) {
            fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].help);
        }
    }
    fputs("\n`lstmd COMMAND --help` lists a command's options; `lstmd --version` says what this build is.\n", file);
}

int main(int argc, char **argv)
{
    const char *name = argc < 2 ? "" : argv[1];
    struct error error;
    if (engine_start(&error) != STATUS_OK) {
        fprintf(stderr, "lstmd: %s\n", error.message);
        return EXIT_FAILED;
    }
    signal(SIGXFSZ, SIG_IGN);       /* a file-size limit is an error of the write, as a full disk is */
    setlocale(LC_CTYPE, "C.UTF-8"); /* LC_NUMERIC stays "C": numbers in files and replies have points */
    if (strcmp(name, "--help") == 0) {
        print_help(stdout);
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        struct engine_info info = engine_info();
        printf("lstmd %s, kernels %s, OpenBLAS %s\n", info.version, info.kernels, info.blas);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return commands[i].function(argc - 1, argv + 1);
        }
    }
    if (name[0] == '\0') {
        print_help(stderr);
    } else {
        fprintf(stderr, "lstmd: unknown command '%.64s': `lstmd --help` lists them\n", name);
    }
    return EXIT_USAGE;
}
