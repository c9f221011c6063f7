/* A build with MPI=1: the processes that mpirun started, by MPI's own reductions. The one file that knows MPI. What MPI
 * itself cannot do ends all ranks with its message, as MPI does by default. Thread: see ranks.h. */
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/train/ranks.h"

static bool is_joined(void)
{
    int is_started = 0;
    int is_ended = 0;
    CHECK(MPI_Initialized(&is_started) == MPI_SUCCESS && MPI_Finalized(&is_ended) == MPI_SUCCESS);
    return is_started && !is_ended;
}

enum status ranks_start(struct error *error)
{
    /* What mpirun of Open MPI, and others, tell a process they start. */
    static const char *const signs[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    bool is_one_of_many = false;
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        is_one_of_many = is_one_of_many || getenv(signs[i]) != NULL;
    }
    int provided = MPI_THREAD_SINGLE;
    if (!is_one_of_many) {
        return STATUS_OK;
    }
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED) {
        return error_set(error, STATUS_UNSUPPORTED, "this MPI cannot be called beside other threads");
    }
    return STATUS_OK;
}

void ranks_end(void)
{
    if (is_joined()) {
        MPI_Finalize();
    }
}

void ranks_abort(void)
{
    if (is_joined()) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

size_t ranks_index(void)
{
    int index = 0;
    if (is_joined()) {
        CHECK(MPI_Comm_rank(MPI_COMM_WORLD, &index) == MPI_SUCCESS);
    }
    return (size_t)index;
}

size_t ranks_count(void)
{
    int count = 1;
    if (is_joined()) {
        CHECK(MPI_Comm_size(MPI_COMM_WORLD, &count) == MPI_SUCCESS);
    }
    return (size_t)count;
}

static void sum(void *values, size_t count, MPI_Datatype type)
{
    CHECK(count <= INT_MAX);
    if (is_joined()) {
        CHECK(MPI_Allreduce(MPI_IN_PLACE, values, (int)count, type, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS);
    }
}

void ranks_sum(float *values, size_t count)
{
    sum(values, count, MPI_FLOAT);
}

void ranks_sum_numbers(double *values, size_t count)
{
    sum(values, count, MPI_DOUBLE);
}

enum status ranks_agree(enum status status, struct error *error)
{
    int count = (int)ranks_count();
    int index = (int)ranks_index();
    int first = status == STATUS_OK ? count : index;
    if (is_joined()) {
        CHECK(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) == MPI_SUCCESS);
    }
    if (first == count || first == index) {
        return status;
    }
    error_set(error, STATUS_CANCELLED, "rank %d failed", first);
    return error_code(error, "other_rank"), STATUS_CANCELLED;
}

enum status ranks_compare(const char *what, const char *text, struct error *error)
{
    char own[RANKS_TEXT_BYTES_MAX];
    char first[RANKS_TEXT_BYTES_MAX];
    snprintf(own, sizeof own, "%s", text);
    memcpy(first, own, sizeof own);
    if (is_joined()) {
        CHECK(MPI_Bcast(first, (int)sizeof first, MPI_CHAR, 0, MPI_COMM_WORLD) == MPI_SUCCESS);
    }
    if (strcmp(first, own) == 0) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, "%s is %s on rank %zu, and %s on rank 0", what, own, ranks_index(), first);
}
