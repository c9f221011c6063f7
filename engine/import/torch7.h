/* Torch7's serialised objects (torch.save of Lua, .t7) as plain data. Nothing in them is ever run: a function is a note
 * that there was one, its dump is stepped over. Thread: any, one at a time.
 *
 * An object is an int, its type: 0 nil; 1 a number, a double; 2 a string, an int's length and so many bytes; 3 a table,
 * 4 an object of a class, 8 (once 7) a function, all with an int's index behind the type, which counts them as they
 * were written: an index that was there already means that object. A table is an int's count of pairs, keys and values
 * being objects; 5 a boolean, an int; 6 a function without index. A class's object is two strings, "V 1" and its name,
 * and what it writes: a storage its long's size and elements; a tensor its dimensions' int, sizes and strides as longs,
 * the long's offset from 1 on, and its storage as an object, or nil; any other one object, a table of its fields.
 * Functions have a dump as string and their upvalues as object. Numbers are little-endian, a long has 8 bytes; in ascii
 * files all but bytes are decimal, between white space. Source: torch7, File.lua, generic/Tensor.c, generic/Storage.c
 * and lib/TH/THDiskFile.c. */
#ifndef ENGINE_IMPORT_TORCH7_H
#define ENGINE_IMPORT_TORCH7_H

#include "engine/import/torch.h"

/* A file's objects. Tables are dictionaries, whole numbers integers, strings bytes, functions what is kept outside.
 * What has a class is a call of its name ("nn.Linear"), whose state is the table of its fields; storages and tensors
 * have an index, `arguments`, into the lists here. All lies in the arena of the model or in the file. */
struct torch7_file {
    const struct plain *root;
    const struct torch_view *storages; /* of rank 0: bytes, length and dtype */
    const struct torch_view *tensors;  /* without a name; of rank 0: empty */
};

/* Whether bytes begin as a binary or an ascii file does: with a table whose first key is a string or a number, or with
 * an object of a class. */
bool torch7_begins(const unsigned char *bytes, size_t length);

/* Reads the object at the beginning of `bytes`, into the arena of `model`. `name` is what errors begin with. CORRUPT
 * names the byte and what is wrong there, UNSUPPORTED storages that hold no known numbers, LIMIT the maximum. */
enum status torch7_parse(const unsigned char *bytes, size_t length, const char *name, struct foreign_model *model,
                         struct torch7_file *ret_file, struct error *error) MUST_CHECK;

/* The tensor that a value is, or NULL. */
const struct torch_view *torch7_tensor(const struct torch7_file *file, const struct plain *value);

#endif
