/* Which vocabularies are kept. Thread: the one that reads. Owns the list of sizes. */
#include "engine/import/vocabulary_places.h"

#include "engine/base/mem.h"

bool foreign_vocabulary_equal(const struct foreign_vocabulary *a, const struct foreign_vocabulary *b)
{
    bool are_equal =
        a->count == b->count && a->is_from_one == b->is_from_one && a->problem == NULL && b->problem == NULL;
    for (size_t i = 0; are_equal && i < a->count; i++) {
        are_equal = a->lengths[i] == b->lengths[i] && memcmp(a->symbols[i], b->symbols[i], a->lengths[i]) == 0;
    }
    return are_equal;
}

static int by_size(const void *left, const void *right)
{
    const size_t *a = left;
    const size_t *b = right;
    return (*a > *b) - (*a < *b);
}

static enum status list_sizes(struct vocabulary_places *places, struct error *error)
{
    const struct foreign_model *model = places->model;
    places->sizes = mem_allocate(2 * model->tensor_count + 1, sizeof *places->sizes);
    if (places->sizes == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct shape *shape = &model->tensors[i].shape;
        for (int d = 0; d < shape->rank && shape->rank == 2; d++) {
            places->sizes[places->size_count++] = (size_t)shape->dimensions[d];
        }
    }
    qsort(places->sizes, places->size_count, sizeof *places->sizes, by_size);
    return STATUS_OK;
}

/* Whether a matrix has as many rows or columns as symbols, or one or two more: what pads, what is unknown. */
static bool could_fit(const struct vocabulary_places *places, size_t count)
{
    bool could = false;
    for (size_t more = 0; more <= 2 && !could; more++) {
        size_t size = count + more;
        could = bsearch(&size, places->sizes, places->size_count, sizeof size, by_size) != NULL;
    }
    return could;
}

/* The others of a vocabulary's size. */
struct company {
    size_t count;
    size_t good_count; /* without a problem */
    size_t equal_count;
};

static struct company company_of(const struct foreign_model *model, const struct foreign_vocabulary *vocabulary)
{
    struct company company = {.count = 0};
    for (size_t i = 0; i < model->vocabulary_count; i++) {
        const struct foreign_vocabulary *other = &model->vocabularies[i];
        if (other != vocabulary && other->count == vocabulary->count) {
            company.count++;
            company.good_count += other->problem == NULL ? 1 : 0;
            company.equal_count += foreign_vocabulary_equal(other, vocabulary) ? 1 : 0;
        }
    }
    return company;
}

/* Whether two good ones of so many symbols differ: then more of them tell nothing new. */
static bool are_told(const struct foreign_model *model, size_t count)
{
    for (size_t i = 0; i < model->vocabulary_count; i++) {
        const struct foreign_vocabulary *vocabulary = &model->vocabularies[i];
        if (vocabulary->count == count && vocabulary->problem == NULL) {
            struct company company = company_of(model, vocabulary);
            return company.good_count > company.equal_count;
        }
    }
    return false;
}

/* One without which is known what was with it: that no vocabulary of that size is good, and why; which one is; or
 * that several are. */
static bool can_go(const struct vocabulary_places *places, const struct foreign_vocabulary *vocabulary)
{
    if (!could_fit(places, vocabulary->count)) {
        return true;
    }
    struct company company = company_of(places->model, vocabulary);
    return vocabulary->problem == NULL ? company.equal_count > 0 || company.good_count > 1 : company.count > 0;
}

enum status vocabulary_places_find(struct vocabulary_places *places, size_t count,
                                   struct foreign_vocabulary **ret_place, struct error *error)
{
    struct foreign_model *model = places->model;
    *ret_place = NULL;
    if (model->vocabulary_count < FOREIGN_VOCABULARIES_MAX) {
        *ret_place = &model->vocabularies[model->vocabulary_count];
        return STATUS_OK;
    }
    if (places->sizes == NULL) {
        TRY(list_sizes(places, error));
    }
    if (!could_fit(places, count) || are_told(model, count)) {
        return STATUS_OK;
    }
    for (size_t i = FOREIGN_VOCABULARIES_MAX; i-- > 0 && *ret_place == NULL;) {
        *ret_place = can_go(places, &model->vocabularies[i]) ? &model->vocabularies[i] : NULL;
    }
    return STATUS_OK;
}

void vocabulary_places_keep(struct vocabulary_places *places, struct foreign_vocabulary *place,
                            const struct foreign_vocabulary *vocabulary)
{
    struct foreign_model *model = places->model;
    model->vocabulary_count += place == &model->vocabularies[model->vocabulary_count] ? 1 : 0;
    model->vocabularies_kept++;
    *place = *vocabulary;
}

void vocabulary_places_release(struct vocabulary_places *places)
{
    mem_free(places->sizes);
    *places = (struct vocabulary_places){.model = places->model};
}
