/* Places for the vocabularies that a search finds: a pickle of sentences has more lists of texts than there are places.
 * Where none is left, one that cannot fit the matrices gives way, then one that is told already. Thread: the one that
 * reads. */
#ifndef ENGINE_IMPORT_VOCABULARY_PLACES_H
#define ENGINE_IMPORT_VOCABULARY_PLACES_H

#include "engine/import/foreign.h"

/* Starts as all zeroes but for the model. */
struct vocabulary_places {
    struct foreign_model *model;
    size_t *sizes; /* of the model's matrices, sorted; NULL: not yet needed */
    size_t size_count;
};

/* Where a vocabulary of so many symbols can be kept: behind the model's others, or in the place of one of them. NULL:
 * nowhere, since it cannot fit, or two others of its size differ already. NO_MEMORY. */
enum status vocabulary_places_find(struct vocabulary_places *places, size_t count,
                                   struct foreign_vocabulary **ret_place, struct error *error) MUST_CHECK;

/* Keeps it there. */
void vocabulary_places_keep(struct vocabulary_places *places, struct foreign_vocabulary *place,
                            const struct foreign_vocabulary *vocabulary);

/* Frees what was listed; the vocabularies stay. */
void vocabulary_places_release(struct vocabulary_places *places);

/* Whether both have the same symbols in the same order, and no problem. */
bool foreign_vocabulary_equal(const struct foreign_vocabulary *a, const struct foreign_vocabulary *b);

#endif
