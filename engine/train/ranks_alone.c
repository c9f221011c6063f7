/* A build without MPI: one process trains alone. Thread: any. */
#include "engine/train/ranks.h"

enum status ranks_start(struct error *error)
{
    (void)error;
    return STATUS_OK;
}

void ranks_end(void)
{
}

void ranks_abort(void)
{
}

size_t ranks_index(void)
{
    return 0;
}

size_t ranks_count(void)
{
    return 1;
}

/* The other build writes `values`. */
void ranks_sum(float *values, size_t count) /* NOLINT(readability-non-const-parameter) */
{
    (void)values;
    (void)count;
}

void ranks_sum_numbers(double *values, size_t count) /* NOLINT(readability-non-const-parameter) */
{
    (void)values;
    (void)count;
}

enum status ranks_agree(enum status status, struct error *error)
{
    (void)error;
    return status;
}

enum status ranks_compare(const char *what, const char *text, struct error *error)
{
    (void)what;
    (void)text;
    (void)error;
    return STATUS_OK;
}
