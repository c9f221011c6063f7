/* Graphviz as a child process. Thread: loop. A picture owns its process, pipes, timer and texts, and frees itself when
 * all of its handles have closed. */
#include "daemon/pictures.h"

#include <signal.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { SHELL_NOT_FOUND = 127, READ_BYTES = 65536 };

struct picture {
    struct pictures *pictures;
    struct picture *next;
    uv_process_t process;
    uv_pipe_t in;
    uv_pipe_t out;
    uv_timer_t timer;
    uv_write_t write;
    size_t open_handles;
    bool has_exited;
    bool is_read; /* the output has ended */
    bool is_done; /* `done` was called */
    int64_t exit_status;
    char *dot;
    char *svg;
    size_t svg_length;
    size_t svg_capacity;
    char block[READ_BYTES];
    struct error error; /* what went wrong first; status OK: nothing */
    picture_function *done;
    void *context;
};

struct pictures {
    uv_loop_t *loop;
    struct picture *first;
    size_t count;
};

enum status pictures_create(uv_loop_t *loop, struct pictures **ret_pictures, struct error *error)
{
    struct pictures *pictures = mem_allocate(1, sizeof *pictures);
    if (pictures == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for pictures");
    }
    pictures->loop = loop;
    *ret_pictures = pictures;
    return STATUS_OK;
}

void pictures_destroy(struct pictures *pictures)
{
    CHECK(pictures == NULL || pictures->count == 0);
    mem_free(pictures);
}

size_t pictures_count(const struct pictures *pictures)
{
    return pictures == NULL ? 0 : pictures->count;
}

static void kill_picture(struct picture *picture)
{
    if (!picture->has_exited) {
        uv_process_kill(&picture->process, SIGKILL);
    }
}

void pictures_kill_all(struct pictures *pictures)
{
    for (struct picture *picture = pictures == NULL ? NULL : pictures->first; picture != NULL;
         picture = picture->next) {
        kill_picture(picture);
    }
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct picture *picture = handle->data;
    if (--picture->open_handles > 0) {
        return;
    }
    struct picture **link = &picture->pictures->first;
    while (*link != picture) {
        link = &(*link)->next;
    }
    *link = picture->next;
    picture->pictures->count--;
    mem_free(picture->dot);
    mem_free(picture->svg);
    mem_free(picture);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) {
        uv_close(handle, on_closed);
    }
}

static void refuse_missing(struct error *error)
{
    error_set(error, STATUS_UNSUPPORTED, "a picture as SVG needs Graphviz, which is not installed here");
    error_code(error, "unsupported");
    snprintf(error->hint, sizeof error->hint, "install the package graphviz, or take ?format=dot");
}

/* What the process came to, if nothing went wrong before. */
static void judge(struct picture *picture)
{
    if (picture->error.status != STATUS_OK) {
        return;
    }
    if (picture->exit_status == SHELL_NOT_FOUND) {
        refuse_missing(&picture->error);
    } else if (picture->exit_status != 0 || picture->svg_length == 0) {
        error_set(&picture->error, STATUS_LIMIT,
                  "Graphviz could not draw the graph within %d s and %d MiB; take ?format=dot", PICTURE_SECONDS_MAX,
                  PICTURE_MEMORY_KIB_MAX / 1024);
        error_code(&picture->error, "picture_failed");
    }
}

/* When the process has gone and its output is read, the result is handed over. */
static void finish_if_over(struct picture *picture)
{
    if (!picture->has_exited || !picture->is_read || picture->is_done) {
        return;
    }
    picture->is_done = true;
    judge(picture);
    if (picture->error.status == STATUS_OK) {
        picture->done(picture->context, picture->svg, picture->svg_length, NULL);
        picture->svg = NULL;
    } else {
        picture->done(picture->context, NULL, 0, &picture->error);
    }
    close_handle((uv_handle_t *)&picture->process);
    close_handle((uv_handle_t *)&picture->in);
    close_handle((uv_handle_t *)&picture->out);
    close_handle((uv_handle_t *)&picture->timer);
}

/* ---- while it runs ---- */

static void on_gone(uv_process_t *process, int64_t exit_status, int signal_number)
{
    struct picture *picture = process->data;
    picture->has_exited = true;
    picture->exit_status = signal_number != 0 ? -signal_number : exit_status;
    finish_if_over(picture);
}

static void on_timer(uv_timer_t *timer)
{
    kill_picture(timer->data);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct picture *picture = handle->data;
    *buffer = uv_buf_init(picture->block, sizeof picture->block);
}

static void keep(struct picture *picture, size_t length)
{
    if (picture->error.status != STATUS_OK) {
        return;
    }
    if (picture->svg_length + length > PICTURE_OUTPUT_BYTES_MAX) {
        error_set(&picture->error, STATUS_TOO_LARGE, "the picture has more than %d bytes; take ?format=dot",
                  PICTURE_OUTPUT_BYTES_MAX);
        kill_picture(picture);
        return;
    }
    if (picture->svg_length + length > picture->svg_capacity) {
        size_t capacity = (picture->svg_length + length) * 2;
        char *svg = mem_reallocate(picture->svg, capacity, 1);
        if (svg == NULL) {
            error_set(&picture->error, STATUS_NO_MEMORY, "no memory for a picture");
            kill_picture(picture);
            return;
        }
        picture->svg = svg;
        picture->svg_capacity = capacity;
    }
    memcpy(picture->svg + picture->svg_length, picture->block, length);
    picture->svg_length += length;
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    (void)buffer;
    struct picture *picture = stream->data;
    if (length > 0) {
        keep(picture, (size_t)length);
    } else if (length < 0) {
        picture->is_read = true;
        finish_if_over(picture);
    }
}

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* a process that stops reading says so by its exit status */
    struct picture *picture = write->data;
    close_handle((uv_handle_t *)&picture->in);
}

/* ---- the beginning ---- */

/* Without standard error: its text is nobody's. The shell sets the bounds and says 127 when there is no dot. */
static int spawn(struct picture *picture)
{
    char command[128];
    snprintf(command, sizeof command, "ulimit -v %d -t %d; exec dot -Tsvg", PICTURE_MEMORY_KIB_MAX,
             PICTURE_SECONDS_MAX);
    char shell[] = "/bin/sh";
    char option[] = "-c";
    char *arguments[] = {shell, option, command, NULL};
    uv_stdio_container_t streams[3] = {
        {.flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_READABLE_PIPE), .data.stream = (uv_stream_t *)&picture->in},
        {.flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE), .data.stream = (uv_stream_t *)&picture->out},
        {.flags = UV_IGNORE}};
    uv_process_options_t options = {
        .exit_cb = on_gone, .file = shell, .args = arguments, .stdio_count = 3, .stdio = streams};
    return uv_spawn(picture->pictures->loop, &picture->process, &options);
}

static void begin(struct picture *picture, size_t length)
{
    uv_buf_t buffer = uv_buf_init(picture->dot, (unsigned)length);
    picture->write.data = picture;
    if (uv_write(&picture->write, (uv_stream_t *)&picture->in, &buffer, 1, on_written) != 0) {
        close_handle((uv_handle_t *)&picture->in);
    }
    if (uv_read_start((uv_stream_t *)&picture->out, on_allocate, on_read) != 0) {
        picture->is_read = true;
        kill_picture(picture);
    }
    uv_timer_start(&picture->timer, on_timer, PICTURE_SECONDS_MAX * 1000, 0);
}

enum status pictures_draw(struct pictures *pictures, char *dot, size_t length, picture_function *done, void *context,
                          struct error *error)
{
    if (length > PICTURE_INPUT_BYTES_MAX) {
        return error_set(error, STATUS_TOO_LARGE, "the graph is too large to draw: %zu bytes of DOT, at most %d",
                         length, PICTURE_INPUT_BYTES_MAX);
    }
    if (pictures->count == PICTURES_AT_ONCE_MAX) {
        return error_set(error, STATUS_LIMIT, "%d pictures are being drawn, the maximum", PICTURES_AT_ONCE_MAX);
    }
    struct picture *picture = mem_allocate(1, sizeof *picture);
    if (picture == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a picture");
    }
    *picture = (struct picture){.pictures = pictures, .open_handles = 4, .done = done, .context = context};
    uv_pipe_init(pictures->loop, &picture->in, 0);
    uv_pipe_init(pictures->loop, &picture->out, 0);
    uv_timer_init(pictures->loop, &picture->timer);
    picture->in.data = picture->out.data = picture->timer.data = picture->process.data = picture;
    picture->next = pictures->first;
    pictures->first = picture;
    pictures->count++;
    int failed = spawn(picture);
    if (failed != 0) {
        picture->is_done = picture->has_exited = true;
        close_handle((uv_handle_t *)&picture->process);
        close_handle((uv_handle_t *)&picture->in);
        close_handle((uv_handle_t *)&picture->out);
        close_handle((uv_handle_t *)&picture->timer);
        return error_set(error, STATUS_UNAVAILABLE, "Graphviz cannot be started: %s", uv_strerror(failed));
    }
    picture->dot = dot;
    begin(picture, length);
    return STATUS_OK;
}
