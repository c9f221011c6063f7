/* A chat as a text to go on from: the template is laid over each message, and for the reply it is cut where its content
 * begins. "{role}: {content}\n" makes of one message of a user "user: Hello\nassistant: ". What stands behind the
 * content ends the reply. Thread: any; owns nothing. */
#ifndef DAEMON_CHAT_TEMPLATE_H
#define DAEMON_CHAT_TEMPLATE_H

#include <jansson.h>

#include "engine/base/status.h"

/* Of a model whose settings have none: a line for each message. */
#define CHAT_TEMPLATE_DEFAULT "{content}\n"

/* Whether it has {content} once, and {role} at most once, before it. */
bool chat_template_is_good(const char *template);

/* What stands behind the content: a stop string, or "". Borrowed. */
const char *chat_template_stop(const char *template);

/* Lays a good template over OpenAI's messages, [{"role","content"}]: roles system, developer (as system), user and
 * assistant; a content is a text, or a list of {"type":"text","text"}. INVALID names what is none of this by its path
 * ("messages/0/role"). From mem_allocate, without a NUL behind it. */
enum status chat_template_apply(const char *template, const json_t *messages, char **ret_text, size_t *ret_length,
                                struct error *error) MUST_CHECK;

#endif
