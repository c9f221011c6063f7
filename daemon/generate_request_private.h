/* What generate_request.c (the table of fields) and generate_request_values.c (values that are more than a number)
 * share. Readers take a value that is not null; what they refuse is INVALID, with the field's name in `error->param`.
 * Thread: any. */
#ifndef DAEMON_GENERATE_REQUEST_PRIVATE_H
#define DAEMON_GENERATE_REQUEST_PRIVATE_H

#include "daemon/generate_request.h"

/* The error, which is filled, is about that field. Returns INVALID. */
enum status generate_request_refuse(const char *name, struct error *error);

/* A text, a list of texts, a list of symbol numbers, or a list of such lists. */
enum status generate_request_read_prompt(struct generate_request *request, const json_t *value,
                                         struct error *error) MUST_CHECK;

/* A text or a list of texts, in place of those there were. */
enum status generate_request_read_stop(struct generate_request *request, const json_t *value,
                                       struct error *error) MUST_CHECK;

/* An object of symbols; whether a text is a symbol's is found out later (generate_request_biases). */
enum status generate_request_read_logit_bias(struct generate_request *request, const json_t *object,
                                             struct error *error) MUST_CHECK;

/* {"include_usage": true}; other members are not looked at. */
enum status generate_request_read_stream_options(struct generate_request *request, const json_t *value,
                                                 struct error *error) MUST_CHECK;

/* "error", "skip" or "replace". */
enum status generate_request_read_unknown_symbols(struct generate_request *request, const json_t *value,
                                                  struct error *error) MUST_CHECK;

/* False, "output" or "all". */
enum status generate_request_read_adapt(struct generate_request *request, const json_t *value,
                                        struct error *error) MUST_CHECK;

#endif
