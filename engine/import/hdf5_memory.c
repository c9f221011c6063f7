/* A driver of libhdf5 that reads bytes in memory. Thread: the one that imports. Owns what is created here. */
#include "engine/import/hdf5_memory.h"

#include <hdf5.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

#include "engine/base/mem.h"

struct hdf5_memory {
    H5FD_t library; /* the library's part, the first */
    const unsigned char *bytes;
    size_t length;
    haddr_t end; /* of what it has allotted */
};

/* What is given with a property list; the library copies it. */
struct content {
    struct hdf5_memory *memory;
};

static H5FD_t *open_memory(const char *name, unsigned flags, hid_t access, haddr_t address_max)
{
    (void)name;
    (void)address_max;
    const struct content *content = H5Pget_driver_info(access);
    return content == NULL || (flags & H5F_ACC_RDWR) != 0 ? NULL : &content->memory->library;
}

static herr_t close_memory(H5FD_t *file)
{
    (void)file;
    return 0;
}

static haddr_t get_end(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const struct hdf5_memory *)file)->end;
}

static herr_t set_end(H5FD_t *file, H5FD_mem_t type, haddr_t end)
{
    (void)type;
    ((struct hdf5_memory *)file)->end = end;
    return 0;
}

static haddr_t get_length(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const struct hdf5_memory *)file)->length;
}

/* As of a file: what lies behind the end is zeros. */
static herr_t read_memory(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t size, void *buffer)
{
    (void)type;
    (void)transfer;
    const struct hdf5_memory *memory = (const struct hdf5_memory *)file;
    size_t there = at >= memory->length ? 0 : memory->length - (size_t)at;
    there = there > size ? size : there;
    if (there > 0) {
        memcpy(buffer, memory->bytes + at, there);
    }
    memset((char *)buffer + there, 0, size - there);
    return 0;
}

static herr_t refuse_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t size, const void *buffer)
{
    (void)file;
    (void)type;
    (void)transfer;
    (void)at;
    (void)size;
    (void)buffer;
    return -1;
}

struct hdf5_memory *hdf5_memory_create(const void *bytes, size_t length)
{
    struct hdf5_memory *memory = mem_allocate(1, sizeof *memory);
    if (memory != NULL) {
        memory->bytes = bytes;
        memory->length = length;
    }
    return memory;
}

void hdf5_memory_destroy(struct hdf5_memory *memory)
{
    mem_free(memory);
}

int64_t hdf5_memory_access(struct hdf5_memory *memory)
{
    static const H5FD_class_t driver = {
#if H5_VERSION_GE(1, 13, 0)
        .version = H5FD_CLASS_VERSION,
        .value = H5_VFD_RESERVED + 1,
#endif
        .name = "memory",
        .maxaddr = INT64_MAX,
        .fc_degree = H5F_CLOSE_STRONG,
        .fapl_size = sizeof(struct content),
        .open = open_memory,
        .close = close_memory,
        .get_eoa = get_end,
        .set_eoa = set_end,
        .get_eof = get_length,
        .read = read_memory,
        .write = refuse_write,
        .fl_map = H5FD_FLMAP_DICHOTOMY,
    };
    const struct content content = {memory};
    hid_t id = H5FDregister(&driver);
    hid_t access = id < 0 ? -1 : H5Pcreate(H5P_FILE_ACCESS);
    bool is_set = access >= 0 && H5Pset_driver(access, id, &content) >= 0;
    if (id >= 0) {
        H5FDunregister(id); /* the list keeps it */
    }
    if (!is_set && access >= 0) {
        H5Pclose(access);
    }
    return is_set ? access : -1;
}
