/* Reading request bodies strictly: JSON objects whose every field is known and of its type. Errors name the field by
 * its path ("/version"). Thread: any; owns nothing. */
#ifndef DAEMON_FIELDS_H
#define DAEMON_FIELDS_H

#include <jansson.h>

#include "engine/base/status.h"

enum { FIELDS_INLINE_BYTES_MAX = 64 << 10 }; /* larger bodies are parsed on a run thread */

/* Says why jansson refused a body: INVALID, code "bad_json". */
enum status fields_refuse_json(const json_error_t *where, struct error *error);

/* Parses a body as one JSON object; an empty body is {}. INVALID, code "bad_json", says where. New reference. */
enum status fields_parse(const char *body, size_t length, json_t **ret_object, struct error *error) MUST_CHECK;

/* INVALID, code "unknown_field", for a field that is not in `names`: separated by spaces. */
enum status fields_only(const json_t *object, const char *names, struct error *error) MUST_CHECK;

enum { FIELDS_WARNINGS_MAX = 16, FIELDS_WARNED_NAME_BYTES_MAX = 64 };

/* ["unknown field 'x' was ignored", …] of the fields that are not in `names`: for bodies whose unknown fields are no
 * mistake. Above FIELDS_WARNINGS_MAX the last one says how many more there are, and a long name is not
 * told. New reference; NULL: there are none. */
json_t *fields_warn_unknown(const json_t *object, const char *names);

/* Each reads one field; a missing field or null leaves `*value` as it is. INVALID names the field and what it takes.
 * */
enum status fields_text(const json_t *object, const char *name, const char **value, struct error *error) MUST_CHECK;
enum status fields_flag(const json_t *object, const char *name, bool *value, struct error *error) MUST_CHECK;
enum status fields_integer(const json_t *object, const char *name, int64_t min, int64_t max, int64_t *value,
                           struct error *error) MUST_CHECK;

#endif
