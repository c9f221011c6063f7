/* The command line of lstmd train, and what it asks for as the JSON that HTTP requests have: an option is its field
 * with dashes. Thread: main. */
#ifndef DAEMON_TRAIN_ARGUMENTS_H
#define DAEMON_TRAIN_ARGUMENTS_H

#include <jansson.h>

#include "daemon/model_reference.h"
#include "daemon/options.h"

/* As command_parse. */
bool train_arguments_parse(struct options *options, int argc, char **argv, int *ret_exit_status) MUST_CHECK;

/* --out, and what excludes each other. INVALID, or UNSUPPORTED for what is known but not built. */
enum status train_arguments_check(const struct options *options, struct model_reference *ret_out,
                                  struct error *error) MUST_CHECK;

/* What was given, as training_options_read takes it; as a language_model's specification. New references. */
json_t *train_arguments_request(const struct options *options);
json_t *train_arguments_model(const struct options *options);

/* With --from and --resume: options of the model, and what a preset says of it, can have no effect. CONFLICT names the
 * first that is not as the model's `architecture` (model_architecture) has it; but for what is the training's, too. */
enum status train_arguments_check_model(const struct options *options, const json_t *architecture,
                                        struct error *error) MUST_CHECK;

/* What becomes of the vocabulary of --from. */
struct training_start train_arguments_start(const struct options *options);

#endif
