/* A session's plans: found by what is asked, compiled, kept until others are used more. Thread: any; the session's
 * mutex is held where session_private.h says so. */
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/graph/session_private.h"

/* ---- plans and their pools ---- */

void session_run_free(struct session_run *run)
{
    workspace_destroy(run->workspace);
    mem_free(run);
}

void session_free_plan(struct cached_plan *cached)
{
    while (cached->idle != NULL) {
        struct session_run *run = cached->idle;
        cached->idle = run->next;
        session_run_free(run);
    }
    plan_unref(cached->plan);
    arena_release(&cached->arena);
    mem_free(cached);
}

struct cached_plan *session_take_out(struct session *session, size_t at)
{
    struct cached_plan *cached = session->cached[at];
    session->bytes -= plan_bytes(cached->plan) + cached->idle_count * plan_workspace_bytes(cached->plan);
    session->cached_count--;
    session->cached[at] = session->cached[session->cached_count];
    session->hashes[at] = session->hashes[session->cached_count];
    cached->is_cached = false;
    return --cached->users == 0 ? cached : NULL;
}

/* Makes room for one plan more of that size: takes out those that were used least recently. Returns, linked, the ones
 * that are the caller's to free. */
static struct cached_plan *make_room(struct session *session, size_t bytes)
{
    struct cached_plan *dropped = NULL;
    while (session->cached_count == SESSION_PLANS_MAX ||
           (session->cached_count > 0 && session->bytes + bytes > SESSION_BYTES_MAX)) {
        size_t oldest = 0;
        for (size_t i = 1; i < session->cached_count; i++) {
            oldest = session->cached[i]->used_at < session->cached[oldest]->used_at ? i : oldest;
        }
        struct cached_plan *cached = session_take_out(session, oldest);
        if (cached != NULL) {
            cached->next = dropped;
            dropped = cached;
        }
    }
    return dropped;
}

/* ---- finding a plan ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

uint64_t session_hash(const struct session_request *request)
{
    uint64_t hash = mix(mix(request->feed_count, request->fetch_count), request->target_count);
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct shape *shape = &request->feeds[i].value->shape;
        hash = mix(mix(hash, (uintptr_t)request->feeds[i].output.node), request->feeds[i].output.index);
        for (int d = 0; d < shape->rank; d++) {
            hash = mix(hash, (uint64_t)shape->dimensions[d]);
        }
    }
    for (size_t i = 0; i < request->fetch_count; i++) {
        hash = mix(mix(hash, (uintptr_t)request->fetches[i].node), request->fetches[i].index);
    }
    for (size_t i = 0; i < request->target_count; i++) {
        hash = mix(hash, (uintptr_t)request->targets[i]);
    }
    return hash;
}

static bool is_for(const struct cached_plan *cached, const struct session_request *request)
{
    if (cached->feed_count != request->feed_count || cached->fetch_count != request->fetch_count ||
        cached->target_count != request->target_count) {
        return false;
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct tensor *known = &cached->feed_values[i];
        const struct tensor *value = request->feeds[i].value;
        if (!output_equal(cached->feeds[i], request->feeds[i].output) || known->dtype != value->dtype ||
            !shape_equal(&known->shape, &value->shape) ||
            (known->data != NULL && memcmp(known->data, value->data, tensor_bytes(value)) != 0)) {
            return false;
        }
    }
    for (size_t i = 0; i < request->fetch_count; i++) {
        if (!output_equal(cached->fetches[i], request->fetches[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < request->target_count; i++) {
        if (cached->targets[i] != request->targets[i]) {
            return false;
        }
    }
    return true;
}

struct cached_plan *session_find_plan(struct session *session, uint64_t hash, const struct session_request *request,
                                      struct session_run **ret_run)
{
    for (size_t i = 0; i < session->cached_count; i++) {
        struct cached_plan *cached = session->cached[i];
        if (session->hashes[i] != hash || !is_for(cached, request)) {
            continue;
        }
        cached->users++;
        cached->used_at = ++session->clock;
        *ret_run = cached->idle;
        if (cached->idle != NULL) {
            cached->idle = cached->idle->next;
            cached->idle_count--;
            session->bytes -= plan_workspace_bytes(cached->plan);
        }
        return cached;
    }
    return NULL;
}

/* ---- making a plan ---- */

static enum status copy_key(struct cached_plan *cached, const struct session_request *request, struct error *error)
{
    struct arena *arena = &cached->arena;
    cached->feed_count = request->feed_count;
    cached->fetch_count = request->fetch_count;
    cached->target_count = request->target_count;
    cached->feeds = arena_allocate(arena, request->feed_count, sizeof *cached->feeds);
    cached->feed_values = arena_allocate(arena, request->feed_count, sizeof *cached->feed_values);
    cached->fetches = arena_copy(arena, request->fetches, request->fetch_count, sizeof *cached->fetches);
    cached->targets = arena_copy(arena, request->targets, request->target_count, sizeof(struct node *));
    if (cached->feeds == NULL || cached->feed_values == NULL || cached->fetches == NULL || cached->targets == NULL) {
        return session_no_memory(error);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        cached->feeds[i] = request->feeds[i].output;
        cached->feed_values[i] = *request->feeds[i].value;
    }
    return STATUS_OK;
}

/* Keeps those fed values that the plan depends on. */
static enum status keep_values(struct cached_plan *cached, struct error *error)
{
    for (size_t i = 0; i < cached->feed_count; i++) {
        struct tensor *value = &cached->feed_values[i];
        bool is_part = plan_depends_on_feed(cached->plan, i);
        value->data = is_part ? arena_copy(&cached->arena, value->data, tensor_bytes(value), 1) : NULL;
        if (is_part && value->data == NULL) {
            return session_no_memory(error);
        }
    }
    return STATUS_OK;
}

static enum status compile_into(struct cached_plan *cached, struct graph *graph, const struct session_request *request,
                                struct error *error)
{
    TRY(copy_key(cached, request, error));
    struct shape *shapes = mem_allocate(request->feed_count + 1, sizeof *shapes);
    if (shapes == NULL) {
        return session_no_memory(error);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        shapes[i] = request->feeds[i].value->shape;
    }
    struct plan_options options = {.feeds = cached->feeds,
                                   .feed_shapes = shapes,
                                   .feed_values = cached->feed_values,
                                   .feed_count = cached->feed_count,
                                   .fetches = cached->fetches,
                                   .fetch_count = cached->fetch_count,
                                   .targets = cached->targets,
                                   .target_count = cached->target_count};
    enum status status = plan_create(graph, &options, &cached->plan, error);
    mem_free(shapes);
    return status == STATUS_OK ? keep_values(cached, error) : status;
}

enum status session_compile(struct graph *graph, const struct session_request *request, uint64_t hash,
                            struct cached_plan **ret_cached, struct error *error)
{
    struct cached_plan *cached = mem_allocate(1, sizeof *cached);
    if (cached == NULL) {
        return session_no_memory(error);
    }
    cached->hash = hash;
    enum status status = compile_into(cached, graph, request, error);
    if (status != STATUS_OK) {
        session_free_plan(cached);
        return status;
    }
    *ret_cached = cached;
    return STATUS_OK;
}

struct cached_plan *session_insert_plan(struct session *session, const struct session_request *request,
                                        struct cached_plan *cached, struct session_run **ret_run,
                                        struct cached_plan **ret_dropped)
{
    struct cached_plan *found = session_find_plan(session, cached->hash, request, ret_run);
    if (found != NULL) {
        *ret_dropped = cached;
        return found;
    }
    *ret_dropped = make_room(session, plan_bytes(cached->plan));
    cached->is_cached = true;
    cached->users = 2;
    cached->used_at = ++session->clock;
    session->bytes += plan_bytes(cached->plan);
    session->hashes[session->cached_count] = cached->hash;
    session->cached[session->cached_count++] = cached;
    return cached;
}
