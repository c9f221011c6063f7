/* GET and POST /v2/logging: the log's level, in the words of Triton's logging extension. What is set holds until the
 * configuration is read again. Thread: loop. Owns nothing. */
#include "daemon/api.h"
#include "daemon/fields.h"
#include "daemon/log.h"
#include "daemon/request_fields.h"

/* Levels are in one order, so that each of Triton's switches is one of them. */
struct logging {
    const char *file;
    const char *format;
    bool error;
    bool warning;
    bool info;
    int64_t verbose_level; /* 1 is debug */
};

static struct logging describe(const struct server *server)
{
    uint64_t level = server->settings.log_level;
    return (struct logging){.file = "",
                            .format = "default",
                            .error = true,
                            .warning = level >= LOG_LEVEL_WARNING,
                            .info = level >= LOG_LEVEL_INFO,
                            .verbose_level = level >= LOG_LEVEL_DEBUG ? 1 : 0};
}

static void reply(const struct server *server, struct request *request)
{
    struct logging logging = describe(server);
    request_reply_json(request, 200,
                       json_pack("{s:s, s:b, s:b, s:b, s:I, s:s}", "log_file", logging.file, "log_info", logging.info,
                                 "log_warning", logging.warning, "log_error", logging.error, "log_verbose_level",
                                 (json_int_t)logging.verbose_level, "log_format", logging.format));
}

void api_oip_logging_get(struct server *server, struct request *request)
{
    reply(server, request);
}

static enum status read_logging(const json_t *body, struct logging *logging, struct error *error)
{
    TRY(fields_text(body, "log_file", &logging->file, error));
    TRY(fields_text(body, "log_format", &logging->format, error));
    TRY(fields_flag(body, "log_error", &logging->error, error));
    TRY(fields_flag(body, "log_warning", &logging->warning, error));
    TRY(fields_flag(body, "log_info", &logging->info, error));
    TRY(fields_integer(body, "log_verbose_level", 0, INT32_MAX, &logging->verbose_level, error));
    if (logging->file[0] != '\0' || strcmp(logging->format, "default") != 0) {
        return error_set(error, STATUS_INVALID, "%s cannot be set: the log goes to standard error, in one form",
                         logging->file[0] != '\0' ? "log_file" : "log_format");
    }
    if (!logging->error || (logging->info && !logging->warning) || (logging->verbose_level > 0 && !logging->info)) {
        return error_set(error, STATUS_INVALID,
                         "errors are always logged, and what is less urgent only with what is more: log_error, "
                         "log_warning, log_info, log_verbose_level");
    }
    return STATUS_OK;
}

void api_oip_logging_set(struct server *server, struct request *request)
{
    struct error error;
    struct logging logging = describe(server);
    json_t *body = NULL;
    enum status status = request_read_fields(request, NULL, &body, &error);
    if (status == STATUS_OK) {
        status = read_logging(body, &logging, &error);
    }
    json_decref(body);
    if (status != STATUS_OK) {
        request_reply_error(request, &error);
        return;
    }
    enum log_level level = logging.verbose_level > 0 ? LOG_LEVEL_DEBUG
                           : logging.info            ? LOG_LEVEL_INFO
                           : logging.warning         ? LOG_LEVEL_WARNING
                                                     : LOG_LEVEL_ERROR;
    server->settings.log_level = level;
    log_set_level(level);
    reply(server, request);
}
