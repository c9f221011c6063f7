/* Imports over HTTP: each reads its source by a process of its own (import_process.h) on a thread of its own, and makes
 * a new model of it, whole or not at all; as many at once as `imports_max` says. Thread: loop. */
#ifndef DAEMON_IMPORTS_H
#define DAEMON_IMPORTS_H

#include "daemon/server.h"

struct imports;
struct upload;

/* Owned. */
enum status imports_create(struct server *server, struct imports **ret_imports, struct error *error) MUST_CHECK;

/* Ends every process; each import then answers 503. No import can begin any more. NULL is allowed. */
void imports_stop_all(struct imports *imports);

/* Imports whose thread has not ended; 0 for NULL. */
size_t imports_running(const struct imports *imports);

/* None may run, no place be taken. NULL is allowed. */
void imports_destroy(struct imports *imports);

/* A place among them, for an upload on its way. LIMIT, code "imports_busy". */
enum status imports_enter(struct imports *imports, struct error *error) MUST_CHECK;
void imports_leave(struct imports *imports);

/* Checks what PUT says: {"path","vocabulary","set":{KEY:VALUE}}. INVALID with error->param. */
enum status import_definition_check(const json_t *import, struct error *error) MUST_CHECK;
/* Its "set" alone; NULL: none. */
enum status import_set_check(const json_t *set, struct error *error) MUST_CHECK;

/* Makes the model `name` of what `definition` ({"import":{…}}, checked; one reference, taken over) says, or of `upload`
 * (taken over; NULL: of a path), and answers the held `request` and releases it: 201 once the model has loaded; 200 or
 * 409 when there is one already; or why not. */
void imports_start(struct imports *imports, struct request *request, const char *name, json_t *definition,
                   struct upload *upload);

#endif
