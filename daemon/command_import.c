/* lstmd import: a model of another framework becomes the next version of a model directory. Thread: main; the source is
 * read by a process of its own (import_process.h). */
#include "daemon/commands.h"
#include "daemon/import_process.h"
#include "engine/engine.h"

static const char SYNOPSIS[] = "SOURCE --out MODELS/NAME [OPTION]…";

static const struct option_row ROWS[] = {
    {"out", OPTION_TEXT, "MODELS/NAME", NULL, "the model's directory; the result becomes its next version"},
    {"vocabulary", OPTION_TEXT, "FILE", NULL, "the symbols, as a pickle or JSON; without it what lies in the source"},
    {"set", OPTION_LIST, "KEY=VALUE", NULL, "decides what is ambiguous, or differs: forget_bias=0, output=NAME, …"},
    {"json", OPTION_FLAG, NULL, NULL, "prints one JSON object"},
};

static enum status read_arguments(const struct options *options, struct import_request *request,
                                  struct model_reference *ret_out, struct error *error)
{
    if (options_text(options, "out") == NULL) {
        return error_set(error, STATUS_INVALID, "--out MODELS/NAME is missing");
    }
    TRY(model_reference_parse(options_text(options, "out"), ret_out, error));
    if (ret_out->version > 0) {
        return error_set(error, STATUS_INVALID, "--out takes no version: the next free one is made");
    }
    return import_request_read(options, request, error);
}

/* "cell: lstm (the names of …)" */
static void print_findings(const json_t *facts)
{
    size_t i;
    const json_t *finding;
    printf("format: %s (%s)\n", json_string_value(json_object_get(facts, "format")),
           json_string_value(json_object_get(facts, "entry")));
    json_array_foreach(json_object_get(facts, "understood"), i, finding)
    {
        printf("%s: %s (%s)\n", json_string_value(json_object_get(finding, "what")),
               json_string_value(json_object_get(finding, "value")),
               json_string_value(json_object_get(finding, "why")));
    }
}

static enum status import(const struct options *options, const struct import_request *request,
                          const struct model_reference *out, struct error *error)
{
    struct import_answer answer = {.bytes = NULL};
    uint64_t version = 0;
    if (training_job_is_unfinished(out->directory)) {
        return error_set(error, STATUS_CONFLICT, "%.300s holds an unfinished training", out->directory);
    }
    TRY(import_process_run(request, &answer, error));
    enum status status = import_save(out->name, out->directory, request, &answer, &version, error);
    if (status == STATUS_OK && options_is_given(options, "json")) {
        json_t *facts = answer.reply.facts;
        json_t *line = json_pack("{s:s, s:I, s:O, s:O}", "model", out->name, "version", (json_int_t)version, "format",
                                 json_object_get(facts, "format"), "understood", json_object_get(facts, "understood"));
        status = command_print_json(line, 0, error);
        json_decref(line);
    } else if (status == STATUS_OK) {
        print_findings(answer.reply.facts);
        printf("%s@%llu\n", out->directory, (unsigned long long)version);
    }
    import_answer_release(&answer);
    return status;
}

int command_import(int argc, char **argv)
{
    struct options options;
    struct import_request request = {.source = NULL};
    struct model_reference out;
    struct error error;
    int exit_status;
    if (!command_parse(&options, ROWS, sizeof ROWS / sizeof ROWS[0], SYNOPSIS, 1, 1, argc, argv, &exit_status)) {
        return exit_status;
    }
    if (read_arguments(&options, &request, &out, &error) != STATUS_OK) {
        command_fail("import", &error);
        return EXIT_USAGE;
    }
    return import(&options, &request, &out, &error) == STATUS_OK ? EXIT_DONE : command_fail("import", &error);
}
