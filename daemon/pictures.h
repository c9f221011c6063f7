/* Pictures of graphs: Graphviz' `dot` as a child process, within bounds of time, memory and output. Thread: loop. */
#ifndef DAEMON_PICTURES_H
#define DAEMON_PICTURES_H

#include <uv.h>

#include "engine/base/status.h"

enum {
    PICTURES_AT_ONCE_MAX = 2,
    PICTURE_SECONDS_MAX = 15,
    PICTURE_MEMORY_KIB_MAX = 1 << 20,
    PICTURE_INPUT_BYTES_MAX = 4 << 20,
    PICTURE_OUTPUT_BYTES_MAX = 32 << 20,
};

struct pictures;

/* Owned; destroy when pictures_count is 0, NULL is allowed. */
enum status pictures_create(uv_loop_t *loop, struct pictures **ret_pictures, struct error *error) MUST_CHECK;
void pictures_destroy(struct pictures *pictures);

/* Called once: with bytes from mem_allocate, which it takes over, or with an error. */
typedef void picture_function(void *context, char *svg, size_t length, const struct error *error);

/* Draws `dot` (from mem_allocate; taken over on success only) as SVG. UNSUPPORTED with a hint when Graphviz is not
 * installed, also later through `done`; LIMIT while PICTURES_AT_ONCE_MAX are drawn; TOO_LARGE. */
enum status pictures_draw(struct pictures *pictures, char *dot, size_t length, picture_function *done, void *context,
                          struct error *error) MUST_CHECK;

/* Child processes at work; kills them: each `done` comes with a later turn of the loop. NULL is allowed. */
size_t pictures_count(const struct pictures *pictures);
void pictures_kill_all(struct pictures *pictures);

#endif
