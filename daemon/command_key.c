/* lstmd key: a new key, which nobody will see again, and its entry for the key file. Thread: main.
 *
 * The entry goes to standard output, the key to standard error: `lstmd key page >>FILE` leaves only the key on the
 * terminal. */
#include "daemon/commands.h"

#include "daemon/keys.h"
#include "engine/base/rng.h"
#include "engine/engine.h"

static const struct option_row ROWS[] = {
    {"scope", OPTION_TEXT, "SCOPE", "generate", "generate, or admin: everything"},
    {"models", OPTION_LIST, "NAME", NULL, "the key is for this model only; may be given several times"},
};

static enum status check_arguments(const struct options *options, struct error *error)
{
    const char *scope = options_text(options, "scope");
    TRY(name_check(options->positional[0], error));
    if (strcmp(scope, "generate") != 0 && strcmp(scope, "admin") != 0) {
        return error_set(error, STATUS_INVALID, "--scope is '%.40s', not generate or admin", scope);
    }
    const char *model;
    for (size_t i = 0; (model = options_list(options, "models", i)) != NULL; i++) {
        TRY(name_check(model, error));
    }
    return STATUS_OK;
}

int command_key(int argc, char **argv)
{
    struct options options;
    struct error error;
    int exit_status;
    if (!command_parse(&options, ROWS, sizeof ROWS / sizeof *ROWS, "NAME [OPTION]…", 1, 1, argc, argv, &exit_status)) {
        return exit_status;
    }
    if (check_arguments(&options, &error) != STATUS_OK) {
        command_fail(argv[0], &error);
        return EXIT_USAGE;
    }
    char key[80], sha256[SHA256_TEXT_BYTES];
    snprintf(key, sizeof key, "lstmd-%016llx%016llx%016llx%016llx", (unsigned long long)rng_system(),
             (unsigned long long)rng_system(), (unsigned long long)rng_system(), (unsigned long long)rng_system());
    sha256_text(key, strlen(key), sha256);
    printf("[key %s]\nsha256 = %s\nscope = %s\n", options.positional[0], sha256, options_text(&options, "scope"));
    const char *model;
    for (size_t i = 0; (model = options_list(&options, "models", i)) != NULL; i++) {
        printf("models = %s\n", model);
    }
    if (fflush(stdout) != 0) {
        error_set_errno(&error, errno, "write the entry");
        return command_fail(argv[0], &error);
    }
    fprintf(stderr, "%s\n", key);
    return EXIT_DONE;
}
