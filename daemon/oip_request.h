/* The body of an Open Inference Protocol infer request: JSON, perhaps with the bytes of its binary tensors behind it
 * (Triton's binary tensor extension), and the reply in the same form. Thread: any; large bodies on run threads.
 *
 *   oip_request_read → oip_request_feed → prediction_run → oip_request_reply
 *
 * Every error is INVALID (or NO_MEMORY) and names the tensor and the number. */
#ifndef DAEMON_OIP_REQUEST_H
#define DAEMON_OIP_REQUEST_H

#include "daemon/prediction.h"

enum { OIP_SEQUENCE_BYTES_MAX = 65 }; /* of a sequence's name, with the NUL */

struct oip_request {
    json_t *body;      /* owned; what the texts below borrow from. NULL: a raw body, of the only input */
    const char *bytes; /* behind the JSON; borrowed from the body */
    size_t byte_count;
    const char *id;                        /* NULL: none */
    const char *signature;                 /* our own parameter signature_name; NULL: the default */
    char sequence[OIP_SEQUENCE_BYTES_MAX]; /* sequence_id as text; "": none */
    bool is_sequence_start;
    bool is_sequence_end;
    bool wants_binary;    /* binary_data_output */
    int64_t timeout_us;   /* 0: none */
    bool *binary_outputs; /* owned, after feed: one for each output asked for, or NULL */
};

/* `json_length` is Inference-Header-Content-Length: SIZE_MAX without that header, 0 for a raw body. Borrows `body`
 * until the release, which is needed also after failure: starts as all zeroes. */
enum status oip_request_read(const char *body, size_t length, size_t json_length, struct oip_request *request,
                             struct error *error) MUST_CHECK;
void oip_request_release(struct oip_request *request);

/* Gives a prediction the inputs' values, and asks for the outputs. */
enum status oip_request_feed(struct oip_request *request, struct prediction *prediction,
                             struct error *error) MUST_CHECK;

/* The reply's bytes: JSON, and behind its first `*ret_json_length` bytes the binary tensors; both lengths are equal
 * where there is none. Owned: mem_free. */
enum status oip_request_reply(const struct oip_request *request, const struct prediction *prediction, const char *model,
                              uint64_t version, char **ret_bytes, size_t *ret_length, size_t *ret_json_length,
                              struct error *error) MUST_CHECK;

/* An end as metadata: {"name","datatype","shape"}, -1 where a dimension is not known. New reference, or NULL without
 * memory. */
json_t *oip_describe_end(const struct served_end *end);

#endif
