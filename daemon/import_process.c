/* Starting the reading process, and hearing it out. Thread: main of a command, or one of its own. Owns the process and
 * the pipe from its standard output. */
#include "daemon/import_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum { ARGUMENTS_MAX = 16 + 2 * IMPORT_SETTINGS_MAX, NUMBER_BYTES = 24, END_MS_MAX = 10000 };

struct reading {
    pid_t process;
    int descriptor; /* what it writes */
    int cancel;     /* or 0 */
    uint64_t seconds_max;
    uint64_t end_ns;
    unsigned char *bytes;
    size_t length;
    size_t capacity;
};

enum status import_split_setting(char *text, struct import_settings *settings, struct error *error)
{
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        return error_set(error, STATUS_INVALID, "--set %.100s: must be KEY=VALUE", text);
    }
    *equals = '\0';
    return import_settings_add(settings, text, equals + 1, error);
}

enum status import_request_read(const struct options *options, struct import_request *ret_request, struct error *error)
{
    struct import_request request = {.source = options->positional[0],
                                     .vocabulary = options_text(options, "vocabulary")};
    const char *setting;
    while ((setting = options_list(options, "set", request.setting_count)) != NULL) {
        if (request.setting_count + 1 >= IMPORT_SETTINGS_MAX || strchr(setting, '=') == NULL) {
            return error_set(error, STATUS_INVALID, "--set %.100s: must be KEY=VALUE, at most %d of them", setting,
                             IMPORT_SETTINGS_MAX - 1);
        }
        request.settings[request.setting_count++] = setting;
    }
    *ret_request = request;
    return STATUS_OK;
}

/* ---- starting ---- */

struct arguments {
    const char *texts[ARGUMENTS_MAX];
    char seconds[NUMBER_BYTES];
    char unpack_bytes[NUMBER_BYTES];
};

static void make_arguments(const struct import_request *request, struct arguments *made)
{
    const char **arguments = made->texts;
    uint64_t unpack_bytes_max =
        request->unpack_bytes_max > 0 ? request->unpack_bytes_max : (uint64_t)SOURCE_UNPACK_MIB_MAX << 20;
    uint64_t seconds_max = request->seconds_max > 0 ? request->seconds_max : IMPORT_SECONDS_MAX;
    size_t count = 0;
    snprintf(made->seconds, sizeof made->seconds, "%llu", (unsigned long long)seconds_max);
    snprintf(made->unpack_bytes, sizeof made->unpack_bytes, "%llu", (unsigned long long)unpack_bytes_max);
    arguments[count++] = "lstmd";
    arguments[count++] = "import-reader";
    arguments[count++] = "--seconds";
    arguments[count++] = made->seconds;
    arguments[count++] = "--unpack-bytes";
    arguments[count++] = made->unpack_bytes;
    if (request->looks_only) {
        arguments[count++] = "--look";
    }
    if (request->upload > 0) {
        arguments[count++] = "--upload";
    }
    if (request->vocabulary != NULL) {
        arguments[count++] = "--vocabulary";
        arguments[count++] = request->vocabulary;
    }
    for (size_t i = 0; i < request->setting_count; i++) {
        arguments[count++] = "--set";
        arguments[count++] = request->settings[i];
    }
    arguments[count++] = "--";
    arguments[count++] = request->source;
    arguments[count] = NULL;
}

/* Its standard input is the upload, or nothing; a thread's blocked signals would outlast its limits of time. */
static int spawn(const struct import_request *request, const struct arguments *arguments, int output, pid_t *process)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t signals;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0) {
        return failed;
    }
    failed = posix_spawnattr_init(&attributes);
    if (failed == 0) {
        sigemptyset(&signals);
        failed = posix_spawnattr_setsigmask(&attributes, &signals);
        sigaddset(&signals, SIGPIPE);
        failed = failed != 0 ? failed : posix_spawnattr_setsigdefault(&attributes, &signals);
        failed = failed != 0 ? failed
                             : posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        failed = failed != 0 ? failed
                 : request->upload > 0
                     ? posix_spawn_file_actions_adddup2(&actions, request->upload, STDIN_FILENO)
                     : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        failed = failed != 0 ? failed : posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
        failed = failed != 0 ? failed
                             : posix_spawn(process, "/proc/self/exe", &actions, &attributes,
                                           (char *const *)(uintptr_t)arguments->texts, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

static enum status start(const struct import_request *request, struct reading *reading, struct error *error)
{
    struct arguments arguments;
    int ends[2];
    make_arguments(request, &arguments);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(error, errno, "no pipe for importing");
    }
    int failed = spawn(request, &arguments, ends[1], &reading->process);
    close(ends[1]);
    reading->descriptor = ends[0];
    if (failed != 0) {
        close(ends[0]);
        return error_set_errno(error, failed, "the importing process cannot be started");
    }
    return STATUS_OK;
}

/* ---- hearing ---- */

static enum status too_long(uint64_t seconds_max, struct error *error)
{
    error_set(error, STATUS_UNPROCESSABLE, "importing took more than %llu seconds", (unsigned long long)seconds_max);
    return error_code(error, "import_too_long"), STATUS_UNPROCESSABLE;
}

static enum status wait_for_bytes(const struct reading *reading, struct error *error)
{
    struct pollfd waited[] = {{.fd = reading->descriptor, .events = POLLIN}, {.fd = reading->cancel, .events = POLLIN}};
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        int left_ms = now_ns >= reading->end_ns ? 0 : (int)((reading->end_ns - now_ns) / 1000000 + 1);
        int count = poll(waited, reading->cancel > 0 ? 2 : 1, left_ms);
        if (count > 0 && waited[1].revents != 0) {
            return error_set(error, STATUS_CANCELLED, "importing was ended");
        }
        if (count > 0) {
            return STATUS_OK;
        }
        if (count == 0 && left_ms == 0) {
            return too_long(reading->seconds_max, error);
        }
        if (count < 0 && errno != EINTR) {
            return error_set_errno(error, errno, "the importing process cannot be heard");
        }
    }
}

/* Makes room for what is announced, once the head is there. */
static enum status make_room(struct reading *reading, struct error *error)
{
    size_t need = IMPORT_HEAD_BYTES;
    if (reading->length >= IMPORT_HEAD_BYTES) {
        TRY(import_reply_length(reading->bytes, &need, error));
    }
    if (reading->capacity < need) {
        unsigned char *bytes = mem_reallocate(reading->bytes, need, 1);
        if (bytes == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of an imported model", need);
        }
        reading->bytes = bytes;
        reading->capacity = need;
    }
    return STATUS_OK;
}

/* Reads until the process closes its end. More than it announced is one byte too many, and refused when parsed. */
static enum status hear(struct reading *reading, struct error *error)
{
    for (;;) {
        unsigned char beyond;
        TRY(make_room(reading, error));
        TRY(wait_for_bytes(reading, error));
        bool is_full = reading->length == reading->capacity;
        ssize_t count = read(reading->descriptor, is_full ? &beyond : reading->bytes + reading->length,
                             is_full ? 1 : reading->capacity - reading->length);
        if (count == 0) {
            return STATUS_OK;
        }
        if (count < 0 && errno != EINTR) {
            return error_set_errno(error, errno, "the importing process cannot be heard");
        }
        if (count > 0 && is_full) {
            return error_set(error, STATUS_CORRUPT, "the importing process wrote more than it announced");
        }
        reading->length += count > 0 ? (size_t)count : 0;
    }
}

/* ---- the end ---- */

/* How it ended. It has said all: should it not end by itself soon, it is ended. (Where the kernel lets a filter end a
 * thread only, others of the process may live on.) */
static int wait_for_end(const struct reading *reading)
{
    int state = 0;
    int process = pidfd_open(reading->process, 0);
    struct pollfd ended = {.fd = process, .events = POLLIN};
    if (process >= 0 && poll(&ended, 1, END_MS_MAX) == 0) {
        kill(reading->process, SIGKILL);
    }
    if (process >= 0) {
        close(process);
    }
    while (waitpid(reading->process, &state, 0) < 0 && errno == EINTR) {
    }
    return state;
}

static enum status died(int state, uint64_t seconds_max, struct error *error)
{
    static const struct {
        int signal;
        const char *what;
    } rows[] = {
        {SIGSYS, "it asked the kernel for something it may not have"},
        {SIGKILL, "it was killed"},
        {SIGSEGV, "it crashed"},
        {SIGABRT, "it crashed"},
        {SIGBUS, "it crashed"},
    };
    const char *what = "it ended by itself";
    int number = WIFSIGNALED(state) ? WTERMSIG(state) : 0;
    if (number == SIGALRM || number == SIGXCPU) {
        return too_long(seconds_max, error);
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        what = number == rows[i].signal ? rows[i].what : what;
    }
    error_set(error, STATUS_UNPROCESSABLE, "the importing process handed nothing over: %s (%s %d)", what,
              number > 0 ? "signal" : "exit status", number > 0 ? number : WEXITSTATUS(state));
    return error_code(error, "import_died"), STATUS_UNPROCESSABLE;
}

enum status import_process_run(const struct import_request *request, struct import_answer *ret_answer,
                               struct error *error)
{
    struct reading reading = {.cancel = request->cancel,
                              .seconds_max = request->seconds_max > 0 ? request->seconds_max : IMPORT_SECONDS_MAX};
    struct import_reply reply = {.facts = NULL};
    reading.end_ns = clock_now_ns() + reading.seconds_max * 1000000000u;
    TRY(start(request, &reading, error));
    enum status status = hear(&reading, error);
    close(reading.descriptor);
    if (status != STATUS_OK) {
        kill(reading.process, SIGKILL);
    }
    int state = wait_for_end(&reading);
    if (status == STATUS_OK && (!WIFEXITED(state) || WEXITSTATUS(state) != 0)) {
        status = died(state, reading.seconds_max, error);
    }
    if (status == STATUS_OK) {
        status = import_reply_parse(reading.bytes, reading.length, &reply, error);
    }
    if (status != STATUS_OK) {
        mem_free(reading.bytes);
        return status;
    }
    *ret_answer = (struct import_answer){.reply = reply, .bytes = reading.bytes};
    return STATUS_OK;
}

void import_answer_release(struct import_answer *answer)
{
    import_reply_release(&answer->reply);
    mem_free(answer->bytes);
    *answer = (struct import_answer){.bytes = NULL};
}

/* ---- keeping ---- */

/* What the manifest says of where the model came from. */
static json_t *make_origin(const struct import_request *request, const struct import_answer *answer)
{
    const json_t *facts = answer->reply.facts;
    json_t *settings = json_array();
    for (size_t i = 0; i < request->setting_count; i++) {
        json_array_append_new(settings, json_string(request->settings[i]));
    }
    return json_pack("{s:{s:s, s:O, s:O, s:s*, s:o, s:O}}", "import", "source", request->source, "format",
                     json_object_get(facts, "format"), "entry", json_object_get(facts, "entry"), "vocabulary",
                     request->vocabulary, "set", settings, "understood", json_object_get(facts, "understood"));
}

enum status import_save(const char *name, const char *directory, const struct import_request *request,
                        struct import_answer *answer, uint64_t *ret_version, struct error *error)
{
    struct model *model = NULL;
    if (import_reply_is_version(&answer->reply)) {
        return model_write_imported(directory, &answer->reply, ret_version, error);
    }
    TRY(model_create_imported(name, &answer->reply, &model, error));
    json_t *origin = make_origin(request, answer);
    json_t *facts = json_incref(answer->reply.facts);
    import_answer_release(answer); /* the weights are in the model now */
    answer->reply.facts = facts;
    enum status status = origin == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory for the manifest")
                                        : model_save(model, directory, origin, NULL, ret_version, error);
    json_decref(origin);
    model_unref(model);
    return status;
}
