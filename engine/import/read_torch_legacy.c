/* PyTorch's files before 1.6: pickles one behind another, of the magic number, the protocol (1001), the machine, what
 * was saved, and the keys of its storages; then each storage: its number of elements in 8 bytes, and those. Thread: the
 * one that imports. Source: torch/serialization.py, _legacy_save. */
#include "engine/import/pickle.h"
#include "engine/import/torch.h"

enum { PROTOCOL = 1001, KEYS_MAX = 20000, PICKLES = 5 };

/* 0x1950a86a20f9469cfc6c, little-endian. */
static const unsigned char magic[] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

struct storage {
    const char *key;
    enum dtype dtype;
    const unsigned char *bytes;
    size_t length;
    bool is_known; /* its dtype */
};

struct legacy {
    struct foreign_model *model;
    const char *name;
    struct storage *storages;
    size_t count;
    size_t steps;
    struct error *error;
};

bool torch_legacy_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    size_t length = foreign_source_peek(file, 0, head);
    /* PROTO n, LONG1 10, the number; PyTorch always writes protocol 2. */
    return length > 4 + sizeof magic && head[0] == 0x80 && head[2] == 0x8a && head[3] == sizeof magic &&
           memcmp(head + 4, magic, sizeof magic) == 0;
}

static struct storage *find_by_key(const struct legacy *legacy, const char *key)
{
    for (size_t i = 0; i < legacy->count; i++) {
        if (strcmp(legacy->storages[i].key, key) == 0) {
            return &legacy->storages[i];
        }
    }
    return NULL;
}

static enum status find_storage(const struct torch_storages *storages, const char *key, const unsigned char **ret_bytes,
                                size_t *ret_length, struct error *error)
{
    const struct legacy *legacy = storages->context;
    const struct storage *storage = find_by_key(legacy, key);
    if (storage == NULL) {
        return error_set(error, STATUS_CORRUPT, "%s: the storage %.200s is not in the file", legacy->name, key);
    }
    *ret_bytes = storage->bytes;
    *ret_length = storage->length;
    return STATUS_OK;
}

/* The elements' sizes stand only where a tensor names its storage: notes them for every storage below `value`. */
static void note_types(struct legacy *legacy, const struct plain *value, size_t depth)
{
    enum { DEPTH_MAX = 32, STEPS_MAX = 500000 };
    bool is_bfloat16;
    if (value == NULL || depth > DEPTH_MAX || ++legacy->steps > STEPS_MAX) {
        return;
    }
    if (value->kind == PLAIN_PERSISTENT) {
        const struct plain *type = plain_item(value->arguments, 1);
        const struct plain *key = plain_item(value->arguments, 2);
        struct storage *storage = plain_is_string(key) ? find_by_key(legacy, key->text) : NULL;
        if (storage != NULL && type != NULL && type->kind == PLAIN_GLOBAL) {
            storage->is_known = torch_storage_dtype(type->text, &storage->dtype, &is_bfloat16);
        }
        return;
    }
    if (value->kind != PLAIN_LIST && value->kind != PLAIN_DICT && value->kind != PLAIN_CALL) {
        return;
    }
    for (uint32_t i = 0; i < value->count; i++) {
        note_types(legacy, value->items[i], depth + 1);
    }
    if (value->kind == PLAIN_CALL) {
        note_types(legacy, value->arguments, depth + 1);
        note_types(legacy, value->state, depth + 1);
    }
}

static enum status read_keys(struct legacy *legacy, const struct plain *keys)
{
    if (keys->kind != PLAIN_LIST || keys->count > KEYS_MAX) {
        return error_set(legacy->error, STATUS_CORRUPT, "%s: no list of storages, or more than %d", legacy->name,
                         KEYS_MAX);
    }
    legacy->storages = arena_allocate(&legacy->model->arena, keys->count + 1, sizeof *legacy->storages);
    if (legacy->storages == NULL) {
        return foreign_no_memory(legacy->model, legacy->error);
    }
    for (uint32_t i = 0; i < keys->count; i++) {
        if (!plain_is_string(keys->items[i])) {
            return error_set(legacy->error, STATUS_CORRUPT, "%s: the key of storage %u is no string", legacy->name, i);
        }
        legacy->storages[legacy->count++].key = keys->items[i]->text;
    }
    return STATUS_OK;
}

static enum status read_storages(struct legacy *legacy, const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < legacy->count; i++) {
        struct storage *storage = &legacy->storages[i];
        uint64_t count = 0;
        size_t need = 0;
        if (!storage->is_known) {
            return error_set(legacy->error, STATUS_UNSUPPORTED, "%s: the type of storage %.200s is not known",
                             legacy->name, storage->key);
        }
        memcpy(&count, bytes, length < sizeof count ? 0 : sizeof count);
        if (length < sizeof count || __builtin_mul_overflow(count, dtype_bytes(storage->dtype), &need) ||
            need > length - sizeof count) {
            return error_set(legacy->error, STATUS_CORRUPT, "%s: storage %.200s of %llu elements is cut off",
                             legacy->name, storage->key, (unsigned long long)count);
        }
        storage->bytes = bytes + sizeof count;
        storage->length = need;
        bytes += sizeof count + need;
        length -= sizeof count + need;
    }
    return STATUS_OK;
}

enum status torch_legacy_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct error *error)
{
    struct legacy legacy = {.model = model, .name = file->name, .error = error};
    const struct torch_storages storages = {.find = find_storage, .context = &legacy};
    const unsigned char *bytes = NULL;
    size_t length = 0;
    struct plain *pickles[PICKLES] = {NULL};
    int64_t protocol = 0;
    model->format = "PyTorch legacy";
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    for (size_t i = 0; i < PICKLES; i++) {
        size_t end = 0;
        TRY(pickle_read(bytes, length, &model->arena, &pickles[i], &end, error));
        bytes += end;
        length -= end;
    }
    if (!plain_integer(pickles[1], &protocol) || protocol != PROTOCOL) {
        return error_set(error, STATUS_UNSUPPORTED, "%s: protocol %lld, not %d", file->name, (long long)protocol,
                         PROTOCOL);
    }
    const struct plain *is_little = plain_get(pickles[2], "little_endian");
    if (is_little != NULL && is_little->kind == PLAIN_BOOLEAN && !is_little->boolean) {
        return error_set(error, STATUS_UNSUPPORTED, "%s: a file written big-endian", file->name);
    }
    TRY(read_keys(&legacy, pickles[4]));
    note_types(&legacy, pickles[3], 0);
    TRY(read_storages(&legacy, bytes, length));
    return torch_add_tensors(model, pickles[3], &storages, error);
}
