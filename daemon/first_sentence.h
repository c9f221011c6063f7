/* The first sentence of `make run`: what the demo model says, made on a run thread and printed to standard output. */
#ifndef DAEMON_FIRST_SENTENCE_H
#define DAEMON_FIRST_SENTENCE_H

#include "daemon/server.h"

/* Prints one curl line for `model` at `address` ("http://127.0.0.1:8080") and then, soon, the sentence it generates.
 * Where there is no such model, or no memory, only a line of the log says so. Thread: loop. */
void first_sentence_print(struct server *server, const char *model, const char *address);

#endif
