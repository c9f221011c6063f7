/* The handlers of all routes, by family; each is documented in the HTTP API's description. Called on the loop thread
 * when a request is complete; each replies, or holds the request and replies later. */
#ifndef DAEMON_API_H
#define DAEMON_API_H

#include "daemon/registry.h"
#include "daemon/server.h"
#include "daemon/workers.h"

/* api_job.c. Gives `job`, the first member of what mem_allocate gave for `request`, to the workers and holds the
 * request until the job's `done` releases it. Where `status`, of what came before, is not OK, or the workers refuse
 * the job: frees it (NULL is allowed) and replies `error`. */
void api_submit(struct request *request, struct workers *workers, struct job *job, enum status status,
                struct error *error);
/* When a request that names no time of its own must be answered: clock_now_ms. */
uint64_t api_deadline_ms(const struct server *server, const struct request *request);

/* api_page.c: /, the web page. */
void api_page(struct server *server, struct request *request);

/* api_health.c: /health/live, /health/ready, /metrics, /v1/reload. */
void api_health_live(struct server *server, struct request *request);
void api_health_ready(struct server *server, struct request *request);
void api_metrics(struct server *server, struct request *request);
void api_reload(struct server *server, struct request *request);

/* api_openapi.c: /openapi.json. */
void api_openapi(struct server *server, struct request *request);

/* api_completions.c: /v1/completions, /v1/chat/completions, /v1/models/{m}/generate and /score, /v1/requests. */
void api_completions(struct server *server, struct request *request);
void api_chat_completions(struct server *server, struct request *request);
void api_score(struct server *server, struct request *request);
void api_generate(struct server *server, struct request *request);
void api_requests(struct server *server, struct request *request);
void api_request_delete(struct server *server, struct request *request);

/* api_tokenizer.c: /tokenize, /detokenize, /tokenizer_info. */
void api_tokenize(struct server *server, struct request *request);
void api_detokenize(struct server *server, struct request *request);
void api_tokenizer_info(struct server *server, struct request *request);

/* api_models.c: /v1/models and below: save, restore, load, unload, labels, settings. */
void api_models_list(struct server *server, struct request *request);
void api_models_get(struct server *server, struct request *request);
void api_models_delete(struct server *server, struct request *request);
void api_models_save(struct server *server, struct request *request);
void api_models_restore(struct server *server, struct request *request);
void api_models_load(struct server *server, struct request *request);
void api_models_unload(struct server *server, struct request *request);
void api_models_export(struct server *server, struct request *request);
void api_labels_get(struct server *server, struct request *request);
void api_labels_put(struct server *server, struct request *request);
void api_labels_delete(struct server *server, struct request *request);
void api_settings_get(struct server *server, struct request *request);
void api_settings_patch(struct server *server, struct request *request);

/* The registry's answer as the reply to a held request, which is then released. */
struct registry_callback api_answer_held(struct request *request);

/* api_put.c: PUT /v1/models/{m}, and its body while it comes (request_take_body; the context is the server). */
void api_models_put(struct server *server, struct request *request);
enum body_part api_models_put_part(void *context, struct request *request, char *bytes, size_t length);

/* api_graph.c: /v1/models/{m}/graph and /variables. */
void api_graph_get(struct server *server, struct request *request);
void api_graph_build(struct server *server, struct request *request);
void api_graph_reset(struct server *server, struct request *request);
void api_graph_run(struct server *server, struct request *request);
void api_variables_list(struct server *server, struct request *request);
void api_variables_get(struct server *server, struct request *request);
void api_variables_put(struct server *server, struct request *request);

/* api_train.c: /v1/models/{m}/train. */
void api_train_start(struct server *server, struct request *request);
void api_train_get(struct server *server, struct request *request);
void api_train_events(struct server *server, struct request *request);
void api_train_stop(struct server *server, struct request *request);

/* api_sessions.c: /v1/sessions. */
void api_sessions_list(struct server *server, struct request *request);
void api_sessions_get(struct server *server, struct request *request);
void api_sessions_put(struct server *server, struct request *request);
void api_sessions_delete(struct server *server, struct request *request);

/* api_corpora.c: /v1/corpora. */
void api_corpora_put(struct server *server, struct request *request);
void api_corpora_get(struct server *server, struct request *request);
void api_corpora_delete(struct server *server, struct request *request);

/* api_oip.c, api_oip_infer.c, api_oip_logging.c: the Open Inference Protocol, /v2. */
void api_oip_server(struct server *server, struct request *request);
void api_oip_live(struct server *server, struct request *request);
void api_oip_ready(struct server *server, struct request *request);
void api_oip_model(struct server *server, struct request *request);
void api_oip_model_ready(struct server *server, struct request *request);
void api_oip_stats(struct server *server, struct request *request);
void api_oip_all_stats(struct server *server, struct request *request);
void api_oip_infer(struct server *server, struct request *request);
void api_oip_generate(struct server *server, struct request *request);
void api_oip_generate_stream(struct server *server, struct request *request);
void api_oip_logging_get(struct server *server, struct request *request);
void api_oip_logging_set(struct server *server, struct request *request);
void api_oip_index(struct server *server, struct request *request);
void api_oip_load(struct server *server, struct request *request);
void api_oip_unload(struct server *server, struct request *request);

/* api_tf_serving.c: TF Serving's predict, status and metadata of models, versions and labels. */
void api_tf_predict(struct server *server, struct request *request);
void api_tf_status(struct server *server, struct request *request);
void api_tf_metadata(struct server *server, struct request *request);

#endif
