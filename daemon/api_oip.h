/* What the files of the Open Inference Protocol's routes share. Thread: loop. */
#ifndef DAEMON_API_OIP_H
#define DAEMON_API_OIP_H

#include "daemon/http.h"

/* "m" or "m@7": what /v2/models/{m}[/versions/{v}]/… means, in the request's arena. INVALID for a version that is no
 * number. */
enum status oip_reference(struct request *request, const char **ret_reference, struct error *error) MUST_CHECK;

#endif
