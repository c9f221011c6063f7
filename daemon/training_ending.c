/* How a training that did not come to its end is told. */
#include "daemon/training_ending.h"

#include "daemon/http.h"

json_t *training_ending_record(const struct error *error, const json_t *checkpoint)
{
    if (error->status != STATUS_CANCELLED) {
        json_t *why = error_to_json(error, error_http_status(error));
        return json_pack("{s:s, s:o?}", "event", "failed", "error", why);
    }
    json_t *record = json_pack("{s:s, s:s}", "event", "stopped", "message", error->message);
    if (record != NULL && checkpoint != NULL) {
        json_object_update_missing(record, (json_t *)(uintptr_t)checkpoint);
    }
    return record;
}
