/* What an adaptation has learned, kept apart from what it runs in: the numbers of every variable that learns, and its
 * optimiser's slots, as one block of bytes without a pointer. Immutable, reference-counted. Thread: any. */
#ifndef ENGINE_TRAIN_ADAPTED_WEIGHTS_H
#define ENGINE_TRAIN_ADAPTED_WEIGHTS_H

#include "engine/train/adaptation.h"

struct adapted_weights;

/* Bytes that adapted_weights_save would make. */
size_t adapted_weights_measure(const struct adaptation *adaptation);

/* A copy of what it has learned by now. NO_MEMORY. Owned by one reference. */
enum status adapted_weights_save(const struct adaptation *adaptation, struct adapted_weights **ret_weights,
                                 struct error *error) MUST_CHECK;

/* Puts them into an adaptation of the same version: it goes on learning as the one would that they were taken from.
 * UNPROCESSABLE, code "adapted_mismatch", where they are of other weights or another size. */
enum status adapted_weights_load(const struct adapted_weights *weights, struct adaptation *adaptation,
                                 struct error *error) MUST_CHECK;

/* From bytes that left the process, copied. INVALID, code "adapted_malformed"; UNSUPPORTED, code "newer_format", names
 * both formats; NO_MEMORY. Whether they fit a model shows when they are loaded. Owned by one reference. */
enum status adapted_weights_read(const void *bytes, size_t length, struct adapted_weights **ret_weights,
                                 struct error *error) MUST_CHECK;

/* Their size, 0 of NULL, and all of them as adapted_weights_read takes them, borrowed. */
size_t adapted_weights_bytes(const struct adapted_weights *weights);
const void *adapted_weights_content(const struct adapted_weights *weights);

/* What learned. */
enum adaptation_weights adapted_weights_kind(const struct adapted_weights *weights);

/* One more reference, counted atomically, and its release; both take NULL, unref returns it. */
struct adapted_weights *adapted_weights_ref(struct adapted_weights *weights);
struct adapted_weights *adapted_weights_unref(struct adapted_weights *weights);

#endif
