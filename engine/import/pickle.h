/* Python pickles, protocols 0 to 5, as plain data. Nothing is imported, called or run: a class is its name, a call is a
 * note of what would have been called. Thread: any, one at a time.
 *
 * Known calls that only make plain data give it: collections.OrderedDict and defaultdict, set, frozenset, list, tuple,
 * dict, bytes, bytearray, and _codecs.encode, as which Python 3 writes bytes for older protocols; of NumPy a whole
 * number, a text or an array of texts.
 * Source: CPython, Lib/pickletools.py. */
#ifndef ENGINE_IMPORT_PICKLE_H
#define ENGINE_IMPORT_PICKLE_H

#include "engine/import/plain.h"

enum { PICKLE_MEMO_MAX = 1 << 20, PICKLE_STACK_MAX = 1 << 20 };

/* Reads one pickle at the beginning of `bytes`. `ret_length` is where it ends: others may follow. Everything is in
 * `arena`, whose maximum bounds what a hostile pickle can take. CORRUPT names the byte and what is wrong there,
 * UNSUPPORTED the instruction that needs a registry of extensions or buffers from outside, LIMIT the maximum. */
enum status pickle_read(const unsigned char *bytes, size_t length, struct arena *arena, struct plain **ret_value,
                        size_t *ret_length, struct error *error) MUST_CHECK;

/* NumPy's .npy files: whether one begins so, and what is in it, texts or a pickle. CORRUPT, also where there
 * are not as many elements as its shape says; UNSUPPORTED for an array of anything else; the rest is pickle_read's. */
bool numpy_begins(const unsigned char *bytes, size_t length);
enum status numpy_read(const unsigned char *bytes, size_t length, struct arena *arena, struct plain **ret_value,
                       struct error *error) MUST_CHECK;

#endif
