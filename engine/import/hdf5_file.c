/* HDF5 by libhdf5, from memory. Thread: the one that imports. Owns libhdf5's handles while a call lasts, and the file's
 * until it is closed. */
#include "engine/import/hdf5_file.h"

#include <hdf5.h>

#include "engine/base/mem.h"
#include "engine/import/hdf5_memory.h"

/* Smaller tensors are copied, so that a file whose large ones are compressed need not be kept for them. */
enum { COPIED_BYTES_MAX = 64 << 10 };

enum { TEXT_BYTES_MAX = 16 << 20, TEXTS_MAX = 20000, PIECES_MAX = 1000, RANK_MAX = SHAPE_RANK_MAX };

static const unsigned char magic[] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};

bool hdf5_is_file(const unsigned char *head, size_t length)
{
    return length > sizeof magic && memcmp(head, magic, sizeof magic) == 0;
}

static enum status corrupt(const struct hdf5_file *file, const char *what, struct error *error)
{
    return error_set(error, STATUS_CORRUPT, "%s: a damaged HDF5 file: '%.200s' cannot be read", file->name, what);
}

/* ---- opening ---- */

enum status hdf5_open(const void *bytes, size_t length, const char *name, struct foreign_model *model,
                      struct hdf5_file *ret_file, struct error *error)
{
    *ret_file = (struct hdf5_file){.id = -1, .bytes = bytes, .length = length, .name = name, .model = model};
    if (H5open() < 0) {
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for libhdf5", name);
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    ret_file->memory = hdf5_memory_create(bytes, length);
    if (ret_file->memory == NULL) {
        return foreign_no_memory(model, error);
    }
    hid_t access = hdf5_memory_access(ret_file->memory);
    /* An absolute name: for others the library asks for the working directory. */
    ret_file->id = access < 0 ? -1 : H5Fopen("/memory", H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (ret_file->id < 0) {
        hdf5_close(ret_file);
        return corrupt(ret_file, "/", error);
    }
    return STATUS_OK;
}

void hdf5_close(struct hdf5_file *file)
{
    if (file->id >= 0) {
        H5Fclose(file->id);
        file->id = -1;
    }
    hdf5_memory_destroy(file->memory);
    file->memory = NULL;
}

bool hdf5_has_group(const struct hdf5_file *file, const char *path)
{
    H5O_info_t facts;
    return H5Oget_info_by_name(file->id, path, &facts, H5P_DEFAULT) >= 0 && facts.type == H5O_TYPE_GROUP;
}

/* ---- tensors ---- */

/* Numbers that we keep as they are, and what others of their class are read as. */
static const struct number_type {
    enum dtype dtype;
    hid_t *type; /* constants of the library, made when it starts */
} kept_types[] = {
    {DTYPE_FLOAT32, &H5T_IEEE_F32LE_g}, {DTYPE_FLOAT64, &H5T_IEEE_F64LE_g}, {DTYPE_INT32, &H5T_STD_I32LE_g},
    {DTYPE_INT64, &H5T_STD_I64LE_g},    {DTYPE_INT8, &H5T_STD_I8LE_g},      {DTYPE_UINT8, &H5T_STD_U8LE_g},
    {DTYPE_INT16, &H5T_STD_I16LE_g},    {DTYPE_UINT16, &H5T_STD_U16LE_g},
};

struct dataset {
    struct hdf5_file *file;
    const char *name;
    hid_t id;
    struct shape shape;
    enum dtype dtype;
    hid_t memory_type;
    bool is_kept; /* the file has it as the model does */
    size_t bytes;
};

/* Without even one element of any shape. */
static bool is_empty(const struct dataset *dataset)
{
    hid_t space = H5Dget_space(dataset->id);
    bool is_null = H5Sget_simple_extent_type(space) == H5S_NULL;
    H5Sclose(space);
    return is_null;
}

/* False for what holds no numbers. */
static bool choose_type(struct dataset *dataset)
{
    hid_t type = H5Dget_type(dataset->id);
    H5T_class_t class = H5Tget_class(type);
    for (size_t i = 0; i < sizeof kept_types / sizeof *kept_types && !dataset->is_kept; i++) {
        dataset->dtype = kept_types[i].dtype;
        dataset->memory_type = *kept_types[i].type;
        dataset->is_kept = H5Tequal(type, dataset->memory_type) > 0;
    }
    H5Tclose(type);
    if (!dataset->is_kept && class == H5T_FLOAT) {
        dataset->dtype = DTYPE_FLOAT32;
        dataset->memory_type = H5T_IEEE_F32LE;
    } else if (!dataset->is_kept) {
        dataset->dtype = DTYPE_INT64;
        dataset->memory_type = H5T_STD_I64LE;
    }
    return (class == H5T_FLOAT || class == H5T_INTEGER) && !is_empty(dataset);
}

static enum status read_shape(struct dataset *dataset, struct error *error)
{
    hsize_t sizes[RANK_MAX] = {0};
    hid_t space = H5Dget_space(dataset->id);
    int rank = H5Sget_simple_extent_ndims(space);
    bool is_simple = rank >= 0 && rank <= RANK_MAX && H5Sget_simple_extent_dims(space, sizes, NULL) == rank;
    H5Sclose(space);
    if (rank > RANK_MAX) {
        return error_set(error, STATUS_UNSUPPORTED, "tensor '%.200s' has more than %d dimensions", dataset->name,
                         RANK_MAX);
    }
    for (int d = 0; is_simple && d < rank; d++) {
        TRY(foreign_add_dimension(&dataset->shape, dataset->name, sizes[d] > INT64_MAX ? -1 : (int64_t)sizes[d],
                                  error));
    }
    size_t count = 0;
    bool is_sized = is_simple && shape_element_count(&dataset->shape, &count) &&
                    !__builtin_mul_overflow(count, dtype_bytes(dataset->dtype), &dataset->bytes);
    return is_sized ? STATUS_OK : corrupt(dataset->file, dataset->name, error);
}

/* Where the file holds it in one piece, as it is; NULL: nowhere. UNSUPPORTED where it lies in other files. */
static enum status find_in_place(const struct dataset *dataset, const unsigned char **ret_data, struct error *error)
{
    const struct hdf5_file *file = dataset->file;
    hid_t properties = H5Dget_create_plist(dataset->id);
    H5D_layout_t layout = H5Pget_layout(properties);
    bool is_elsewhere = layout == H5D_VIRTUAL || H5Pget_external_count(properties) != 0;
    H5Pclose(properties);
    if (layout < 0 || is_elsewhere) {
        return is_elsewhere ? error_set(error, STATUS_UNSUPPORTED, "%s: the numbers of '%.200s' lie in other files",
                                        file->name, dataset->name)
                            : corrupt(file, dataset->name, error);
    }
    haddr_t at = layout == H5D_CONTIGUOUS && dataset->is_kept ? H5Dget_offset(dataset->id) : HADDR_UNDEF;
    *ret_data =
        at != HADDR_UNDEF && at <= file->length && dataset->bytes <= file->length - at ? file->bytes + at : NULL;
    return STATUS_OK;
}

static enum status add_dataset(struct dataset *dataset, struct error *error)
{
    struct foreign_model *model = dataset->file->model;
    const unsigned char *data = NULL;
    if (!choose_type(dataset)) {
        model->skipped_count++;
        return STATUS_OK;
    }
    TRY(read_shape(dataset, error));
    TRY(find_in_place(dataset, &data, error));
    if (data != NULL && dataset->bytes > COPIED_BYTES_MAX) {
        dataset->file->is_borrowed = true;
    } else {
        unsigned char *copy = arena_allocate(&model->arena, dataset->bytes + 1, 1);
        if (copy == NULL) {
            return foreign_no_memory(model, error);
        }
        if (H5Dread(dataset->id, dataset->memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, copy) < 0) {
            return corrupt(dataset->file, dataset->name, error);
        }
        data = copy;
    }
    return foreign_add_tensor(model, dataset->name, dataset->dtype, &dataset->shape, data, dataset->bytes, error);
}

/* A walk through the groups. */
struct walk {
    struct hdf5_file *file;
    char path[FOREIGN_NAME_BYTES_MAX + 1]; /* of what is looked at, below the group it began with */
    size_t length;
    size_t depth;
    size_t visited;
    enum status status;
    struct error *error;
};

static herr_t visit(hid_t group, const char *name, const H5L_info_t *link, void *context);

static void enter(struct walk *walk, hid_t object)
{
    struct hdf5_file *file = walk->file;
    if (H5Iget_type(object) == H5I_DATASET) {
        struct dataset dataset = {.file = file, .name = walk->path, .id = object};
        walk->status = add_dataset(&dataset, walk->error);
    } else if (H5Iget_type(object) == H5I_GROUP && walk->depth < HDF5_DEPTH_MAX) {
        walk->depth++;
        herr_t end = H5Literate(object, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, visit, walk);
        walk->depth--;
        if (end < 0 && walk->status == STATUS_OK) {
            walk->status = corrupt(file, walk->path, walk->error);
        }
    } else if (H5Iget_type(object) == H5I_GROUP) {
        walk->status =
            error_set(walk->error, STATUS_LIMIT, "%s: groups nest deeper than %d", file->name, HDF5_DEPTH_MAX);
    }
}

/* One member of a group. A group may hold itself: the depth has an end, and so has the walk. */
static herr_t visit(hid_t group, const char *name, const H5L_info_t *link, void *context)
{
    struct walk *walk = context;
    size_t begin = walk->length;
    if (link->type != H5L_TYPE_HARD) {
        return 0;
    }
    int length = snprintf(walk->path + begin, sizeof walk->path - begin, "%s%s", begin == 0 ? "" : "/", name);
    if (++walk->visited > FOREIGN_TENSORS_MAX || length < 0 || begin + (size_t)length >= sizeof walk->path) {
        walk->status = error_set(walk->error, STATUS_LIMIT, "%s: more than %d members of groups, or longer names",
                                 walk->file->name, FOREIGN_TENSORS_MAX);
        return -1;
    }
    walk->length += (size_t)length;
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0) {
        walk->status = corrupt(walk->file, walk->path, walk->error);
    } else {
        enter(walk, object);
        H5Oclose(object);
    }
    walk->length = begin;
    walk->path[begin] = '\0';
    return walk->status == STATUS_OK ? 0 : -1;
}

enum status hdf5_add_tensors(struct hdf5_file *file, const char *path, struct error *error)
{
    struct walk walk = {.file = file, .status = STATUS_OK, .error = error};
    hid_t group = H5Oopen(file->id, path, H5P_DEFAULT);
    if (group < 0) {
        return corrupt(file, path, error);
    }
    enter(&walk, group);
    H5Oclose(group);
    return walk.status;
}

/* ---- groups ---- */

struct listing {
    const struct hdf5_file *file;
    struct plain *list;
    enum status status;
    struct error *error;
};

static herr_t list_group(hid_t group, const char *name, const H5L_info_t *link, void *context)
{
    struct listing *listing = context;
    struct arena *arena = &listing->file->model->arena;
    hid_t object = link->type == H5L_TYPE_HARD ? H5Oopen(group, name, H5P_DEFAULT) : -1;
    bool is_group = object >= 0 && H5Iget_type(object) == H5I_GROUP;
    if (object >= 0) {
        H5Oclose(object);
    }
    if (!is_group) {
        return 0;
    }
    if (listing->list->count >= FOREIGN_TENSORS_MAX) {
        listing->status = error_set(listing->error, STATUS_LIMIT, "%s: more than %d groups in one", listing->file->name,
                                    FOREIGN_TENSORS_MAX);
        return -1;
    }
    struct plain *text = plain_create_text(arena, PLAIN_TEXT, name, strlen(name));
    if (text == NULL || !plain_append(arena, listing->list, text)) {
        listing->status = foreign_no_memory(listing->file->model, listing->error);
    }
    return listing->status == STATUS_OK ? 0 : -1;
}

enum status hdf5_list_groups(const struct hdf5_file *file, const char *path, struct plain *list, struct error *error)
{
    struct listing listing = {.file = file, .list = list, .status = STATUS_OK, .error = error};
    hid_t group = H5Gopen2(file->id, path, H5P_DEFAULT);
    if (group < 0) {
        return corrupt(file, path, error);
    }
    herr_t end = H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, list_group, &listing);
    H5Gclose(group);
    return end < 0 && listing.status == STATUS_OK ? corrupt(file, path, error) : listing.status;
}

/* ---- texts ---- */

/* An attribute while it is read. */
struct texts {
    const struct hdf5_file *file;
    const char *name;
    hid_t id;
    hid_t type;
    hid_t space;
    size_t count;
    size_t width; /* of those of fixed length */
    bool are_variable;
    char *bytes; /* [count × width], or of those of variable length [count] pointers */
};

static bool measure_texts(struct texts *texts)
{
    hssize_t count = H5Sget_simple_extent_npoints(texts->space);
    texts->are_variable = H5Tis_variable_str(texts->type) > 0;
    texts->width = texts->are_variable ? sizeof(char *) : H5Tget_size(texts->type);
    texts->count = count < 0 ? TEXTS_MAX + 1 : (size_t)count;
    return H5Tget_class(texts->type) == H5T_STRING && texts->count <= TEXTS_MAX && texts->width <= TEXT_BYTES_MAX &&
           texts->count * texts->width <= TEXT_BYTES_MAX;
}

/* `*ret_is_text` false: it holds no texts. */
static enum status read_values(struct texts *texts, bool *ret_is_text, struct error *error)
{
    *ret_is_text = texts->type >= 0 && H5Tget_class(texts->type) == H5T_STRING;
    if (!*ret_is_text) {
        return STATUS_OK;
    }
    if (!measure_texts(texts)) {
        return error_set(error, STATUS_LIMIT, "%s: the attribute '%.100s' holds more than %d texts or %d bytes",
                         texts->file->name, texts->name, TEXTS_MAX, TEXT_BYTES_MAX);
    }
    texts->bytes = mem_allocate(texts->count * texts->width + 1, 1);
    if (texts->bytes == NULL) {
        return foreign_no_memory(texts->file->model, error);
    }
    hid_t memory_type = texts->type;
    return texts->count > 0 && H5Aread(texts->id, memory_type, texts->bytes) < 0
               ? corrupt(texts->file, texts->name, error)
               : STATUS_OK;
}

static enum status append_texts(const struct texts *texts, struct plain *list, struct error *error)
{
    struct arena *arena = &texts->file->model->arena;
    for (size_t i = 0; i < texts->count; i++) {
        const char *text = texts->bytes + i * texts->width;
        size_t length = texts->are_variable ? 0 : strnlen(text, texts->width);
        if (texts->are_variable) {
            memcpy(&text, texts->bytes + i * texts->width, sizeof text);
            length = text == NULL ? 0 : strlen(text);
        }
        struct plain *value =
            length > TEXT_BYTES_MAX ? NULL : plain_create_text(arena, PLAIN_TEXT, text == NULL ? "" : text, length);
        if (value == NULL || !plain_append(arena, list, value)) {
            return foreign_no_memory(texts->file->model, error);
        }
    }
    return STATUS_OK;
}

/* `*ret_is_there` false where the object has no such attribute of texts. */
static enum status read_attribute(const struct hdf5_file *file, const char *path, const char *name, struct plain *list,
                                  bool *ret_is_there, struct error *error)
{
    struct texts texts = {.file = file, .name = name};
    *ret_is_there = H5Aexists_by_name(file->id, path, name, H5P_DEFAULT) > 0;
    if (!*ret_is_there) {
        return STATUS_OK;
    }
    texts.id = H5Aopen_by_name(file->id, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (texts.id < 0) {
        return corrupt(file, name, error);
    }
    texts.type = H5Aget_type(texts.id);
    texts.space = H5Aget_space(texts.id);
    enum status status = read_values(&texts, ret_is_there, error);
    if (status == STATUS_OK && *ret_is_there) {
        status = append_texts(&texts, list, error);
        if (texts.are_variable) {
            H5Dvlen_reclaim(texts.type, texts.space, H5P_DEFAULT, texts.bytes);
        }
    }
    mem_free(texts.bytes);
    H5Sclose(texts.space);
    H5Tclose(texts.type);
    H5Aclose(texts.id);
    return status;
}

enum status hdf5_read_text(const struct hdf5_file *file, const char *path, const char *attribute, const char **ret_text,
                           struct error *error)
{
    struct plain *list = plain_create(&file->model->arena, PLAIN_LIST);
    bool is_there = false;
    if (list == NULL) {
        return foreign_no_memory(file->model, error);
    }
    TRY(read_attribute(file, path, attribute, list, &is_there, error));
    const struct plain *first = plain_item(list, 0);
    *ret_text = first == NULL ? NULL : first->text;
    return STATUS_OK;
}

enum status hdf5_read_texts(const struct hdf5_file *file, const char *path, const char *attribute, struct plain *list,
                            struct error *error)
{
    bool is_there = false;
    TRY(read_attribute(file, path, attribute, list, &is_there, error));
    for (int piece = 0; piece < PIECES_MAX && !(piece == 0 && is_there); piece++) {
        char name[64];
        snprintf(name, sizeof name, "%.40s%d", attribute, piece);
        TRY(read_attribute(file, path, name, list, &is_there, error));
        if (!is_there) {
            break;
        }
        is_there = false;
    }
    return STATUS_OK;
}
