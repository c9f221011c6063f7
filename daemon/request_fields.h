/* Reading what a request says: its small JSON body, its query. Thread: loop; owns nothing. */
#ifndef DAEMON_REQUEST_FIELDS_H
#define DAEMON_REQUEST_FIELDS_H

#include "daemon/http.h"

/* The body as an object of known fields (`names`, separated by spaces; NULL: any). TOO_LARGE above
 * FIELDS_INLINE_BYTES_MAX, for bodies that have no reason to be large; else errors as fields_parse and fields_only.
 * New reference. */
enum status request_read_fields(const struct request *request, const char *names, json_t **ret_object,
                                struct error *error) MUST_CHECK;

/* A query parameter, decoded, in the request's arena; NULL when it is not given, "" without a value. */
const char *request_query(struct request *request, const char *name);

/* Refuses query parameters that are not in `names`: INVALID, code "unknown_field". */
enum status request_only_query(struct request *request, const char *names, struct error *error) MUST_CHECK;

/* A query parameter that is "true" or "false"; missing: false. INVALID names it. */
enum status request_query_flag(struct request *request, const char *name, bool *ret_value,
                               struct error *error) MUST_CHECK;

#endif
