/* Fuzz target: Keras' HDF5 files and .keras archives by their content. libhdf5 itself does not stand damaged files,
 * which fuzz_keras_h5 replays; here the input is a recipe, of which libhdf5 and libzip make a whole file. A line is one
 * thing to make, its fields end at tabs; what the libraries refuse is left out:
 *
 *   latest                            groups and attributes as newer programs lay them out; the first line
 *   group PATH
 *   text PATH ATTRIBUTE TEXT          an attribute of fixed length; Text: of variable length
 *   list PATH ATTRIBUTE TEXT,TEXT…    several texts; List: of variable length
 *   number PATH ATTRIBUTE             an attribute that is no text
 *   data PATH TYPE LAYOUT SIZE,SIZE…  numbers; without sizes a scalar, "null" nothing
 *   hard PATH TARGET                  another name of an object; soft: of a path
 *   outside PATH                      a link to another file
 *   json NAME TEXT                    a file of a .keras archive, beside the HDF5 file */
#include <hdf5.h>
#include <stdint.h>
#include <stdlib.h>
#include <zip.h>

#include "foreign_input.h"

enum { FIELDS_MAX = 5, LINES_MAX = 400, ITEMS_MAX = 64, TEXT_MAX = 60000, WRITTEN_MAX = 1 << 16, MEMBERS_MAX = 8 };

struct member {
    const char *name;
    const char *text;
};

struct recipe {
    hid_t file;
    hid_t links; /* how links are made: with the groups above them */
    struct member members[MEMBERS_MAX];
    size_t member_count;
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* Cuts a text up at a separator, in place; fields that are not there are empty. */
static size_t cut(char *text, char separator, char **fields, size_t count_max)
{
    size_t count = 0;
    while (count < count_max) {
        char *end = count + 1 < count_max ? strchr(text, separator) : NULL;
        fields[count++] = text;
        if (end == NULL) {
            break;
        }
        *end = '\0';
        text = end + 1;
    }
    for (size_t i = count; i < count_max; i++) {
        fields[i] = text + strlen(text);
    }
    return count;
}

/* ---- groups and links ---- */

static void make_group(struct recipe *recipe, char **fields)
{
    hid_t group = H5Gcreate2(recipe->file, fields[1], recipe->links, H5P_DEFAULT, H5P_DEFAULT);
    if (group >= 0) {
        H5Gclose(group);
    }
}

static void make_hard_link(struct recipe *recipe, char **fields)
{
    H5Lcreate_hard(recipe->file, fields[2], recipe->file, fields[1], recipe->links, H5P_DEFAULT);
}

static void make_soft_link(struct recipe *recipe, char **fields)
{
    H5Lcreate_soft(fields[2], recipe->file, fields[1], recipe->links, H5P_DEFAULT);
}

static void make_outside_link(struct recipe *recipe, char **fields)
{
    H5Lcreate_external("elsewhere.h5", "/", recipe->file, fields[1], recipe->links, H5P_DEFAULT);
}

/* ---- attributes ---- */

/* Type and space are closed. */
static void write_attribute(struct recipe *recipe, char **fields, hid_t type, hid_t space, const void *value)
{
    hid_t object = H5Oopen(recipe->file, fields[1], H5P_DEFAULT);
    hid_t attribute = object < 0 ? -1 : H5Acreate2(object, fields[2], type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0) {
        H5Awrite(attribute, type, value);
        H5Aclose(attribute);
    }
    if (object >= 0) {
        H5Oclose(object);
    }
    H5Tclose(type);
    H5Sclose(space);
}

static void write_texts(struct recipe *recipe, char **fields, char **items, size_t count, bool is_list)
{
    bool is_variable = fields[0][0] == 'T' || fields[0][0] == 'L';
    size_t width = 1;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(items[i]);
        width = length > width ? length : width;
    }
    char *fixed = mem_allocate(count * width, 1);
    CHECK(fixed != NULL);
    for (size_t i = 0; i < count; i++) {
        memcpy(fixed + i * width, items[i], strlen(items[i]));
    }
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, is_variable ? H5T_VARIABLE : width);
    hid_t space = is_list ? H5Screate_simple(1, &(hsize_t){count}, NULL) : H5Screate(H5S_SCALAR);
    write_attribute(recipe, fields, type, space, is_variable ? (const void *)items : fixed);
    mem_free(fixed);
}

static void make_text(struct recipe *recipe, char **fields)
{
    write_texts(recipe, fields, fields + 3, 1, false);
}

static void make_list(struct recipe *recipe, char **fields)
{
    char *items[ITEMS_MAX];
    size_t count = cut(fields[3], ',', items, ITEMS_MAX);
    write_texts(recipe, fields, items, count, true);
}

static void make_number(struct recipe *recipe, char **fields)
{
    write_attribute(recipe, fields, H5Tcopy(H5T_NATIVE_INT), H5Screate(H5S_SCALAR), &(int){7});
}

/* ---- numbers ---- */

static hid_t half_type(void)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    return type;
}

/* By the names that NumPy gives them; texts and structures for what is none. */
static hid_t find_type(const char *name)
{
    const struct {
        const char *name;
        hid_t type;
    } types[] = {{"f4", H5T_IEEE_F32LE},  {"f8", H5T_IEEE_F64LE}, {">f4", H5T_IEEE_F32BE}, {"i4", H5T_STD_I32LE},
                 {">f8", H5T_IEEE_F64BE}, {"i8", H5T_STD_I64LE},  {"i1", H5T_STD_I8LE},    {"u1", H5T_STD_U8LE},
                 {"i2", H5T_STD_I16LE},   {"u2", H5T_STD_U16LE},  {"u8", H5T_STD_U64LE},   {">i8", H5T_STD_I64BE},
                 {"s", H5T_C_S1},         {"b8", H5T_STD_B8LE},   {"o", H5T_STD_REF_OBJ}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(name, types[i].name) == 0) {
            return H5Tcopy(types[i].type);
        }
    }
    return strcmp(name, "c") == 0 ? H5Tcreate(H5T_COMPOUND, 8) : half_type();
}

static hid_t make_space(char *sizes, hsize_t *ret_chunk, int *ret_rank)
{
    char *items[H5S_MAX_RANK];
    hsize_t dimensions[H5S_MAX_RANK];
    *ret_rank = 0;
    if (*sizes == '\0' || *sizes == 'n') {
        return H5Screate(*sizes == '\0' ? H5S_SCALAR : H5S_NULL);
    }
    *ret_rank = (int)cut(sizes, ',', items, H5S_MAX_RANK);
    for (int d = 0; d < *ret_rank; d++) {
        dimensions[d] = strtoull(items[d], NULL, 10);
        ret_chunk[d] = dimensions[d] == 0 ? 1 : dimensions[d] > 8 ? 8 : dimensions[d];
    }
    return H5Screate_simple(*ret_rank, dimensions, NULL);
}

/* How the file holds numbers: in one piece, in its header, in pieces, in compressed pieces, or not at all. */
static hid_t make_layout(const char *layout, int rank, const hsize_t *chunk, hid_t space)
{
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    switch (*layout) {
    case 'p': H5Pset_layout(properties, H5D_COMPACT); break;
    case 'z':
        H5Pset_chunk(properties, rank, chunk);
        H5Pset_shuffle(properties);
        H5Pset_deflate(properties, 1);
        H5Pset_fletcher32(properties);
        break;
    case 'k': H5Pset_chunk(properties, rank, chunk); break;
    case 'x': H5Pset_external(properties, "elsewhere", 0, H5F_UNLIMITED); break;
    case 'v': H5Pset_virtual(properties, space, "elsewhere.h5", "/data", space); break;
    default: break;
    }
    return properties;
}

static void write_numbers(hid_t data, hid_t space)
{
    static float numbers[WRITTEN_MAX];
    hssize_t count = H5Sget_simple_extent_npoints(space);
    if (numbers[1] == 0) {
        for (size_t i = 0; i < WRITTEN_MAX; i++) {
            numbers[i] = (float)((i * 7) % 31) / 31 - 0.5F;
        }
    }
    if (count >= 0 && count <= WRITTEN_MAX) {
        H5Dwrite(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, numbers);
    }
}

/* What lies elsewhere, and what is larger than anybody's numbers, is not written. */
static void make_data(struct recipe *recipe, char **fields)
{
    hsize_t chunk[H5S_MAX_RANK];
    int rank = 0;
    hid_t space = make_space(fields[4], chunk, &rank);
    if (space < 0) {
        return;
    }
    hid_t type = find_type(fields[2]);
    hid_t properties = make_layout(fields[3], rank, chunk, space);
    hid_t data = H5Dcreate2(recipe->file, fields[1], type, space, recipe->links, properties, H5P_DEFAULT);
    if (data >= 0) {
        if (*fields[3] != 'x' && *fields[3] != 'v') {
            write_numbers(data, space);
        }
        H5Dclose(data);
    }
    H5Pclose(properties);
    H5Tclose(type);
    H5Sclose(space);
}

static void add_member(struct recipe *recipe, char **fields)
{
    if (recipe->member_count < MEMBERS_MAX) {
        recipe->members[recipe->member_count++] = (struct member){fields[1], fields[2]};
    }
}

/* ---- recipes ---- */

static const struct thing {
    const char *name;
    size_t field_count; /* the last takes the rest of the line */
    void (*make)(struct recipe *recipe, char **fields);
} things[] = {
    {"group", 2, make_group},    {"text", 4, make_text},
    {"Text", 4, make_text},      {"list", 4, make_list},
    {"List", 4, make_list},      {"number", 3, make_number},
    {"data", 5, make_data},      {"hard", 3, make_hard_link},
    {"soft", 3, make_soft_link}, {"outside", 2, make_outside_link},
    {"json", 3, add_member},
};

static void make_line(struct recipe *recipe, char *line)
{
    char *fields[FIELDS_MAX];
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        size_t length = strlen(things[i].name);
        if (strncmp(line, things[i].name, length) == 0 && line[length] == '\t') {
            cut(line, '\t', fields, things[i].field_count);
            things[i].make(recipe, fields);
            return;
        }
    }
}

/* The file as bytes, which the caller frees. */
static unsigned char *make_hdf5(struct recipe *recipe, char *text, size_t *ret_length)
{
    char *lines[LINES_MAX];
    size_t line_count = cut(text, '\n', lines, LINES_MAX);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fapl_core(access, 1 << 16, false);
    if (strcmp(lines[0], "latest") == 0) {
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18);
    }
    recipe->file = H5Fcreate("/memory", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    recipe->links = H5Pcreate(H5P_LINK_CREATE);
    CHECK(recipe->file >= 0);
    H5Pset_create_intermediate_group(recipe->links, 1);
    for (size_t i = 0; i < line_count; i++) {
        make_line(recipe, lines[i]);
    }
    H5Fflush(recipe->file, H5F_SCOPE_GLOBAL);
    ssize_t length = H5Fget_file_image(recipe->file, NULL, 0);
    CHECK(length > 0);
    unsigned char *bytes = mem_allocate((size_t)length, 1);
    CHECK(bytes != NULL && H5Fget_file_image(recipe->file, bytes, (size_t)length) == length);
    H5Pclose(recipe->links);
    H5Fclose(recipe->file);
    H5Pclose(access);
    *ret_length = (size_t)length;
    return bytes;
}

static void add_to_zip(zip_t *zip, const char *name, const void *bytes, size_t length)
{
    zip_source_t *source = zip_source_buffer(zip, bytes, length, 0);
    CHECK(source != NULL);
    if (zip_file_add(zip, name, source, 0) < 0) {
        zip_source_free(source); /* a name that no archive has */
    }
}

/* A .keras archive as bytes, which the caller frees. */
static unsigned char *make_zip(const struct recipe *recipe, const void *hdf5, size_t hdf5_length, size_t *ret_length)
{
    zip_source_t *archive = zip_source_buffer_create(NULL, 0, 0, NULL);
    CHECK(archive != NULL);
    zip_source_keep(archive);
    zip_t *zip = zip_open_from_source(archive, ZIP_TRUNCATE, NULL);
    CHECK(zip != NULL);
    for (size_t i = 0; i < recipe->member_count; i++) {
        add_to_zip(zip, recipe->members[i].name, recipe->members[i].text, strlen(recipe->members[i].text));
    }
    add_to_zip(zip, "model.weights.h5", hdf5, hdf5_length);
    CHECK(zip_close(zip) == 0);

    zip_stat_t facts;
    CHECK(zip_source_stat(archive, &facts) == 0 && zip_source_open(archive) == 0);
    unsigned char *bytes = mem_allocate(facts.size, 1);
    CHECK(bytes != NULL && zip_source_read(archive, bytes, facts.size) == (zip_int64_t)facts.size);
    zip_source_close(archive);
    zip_source_free(archive);
    *ret_length = facts.size;
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";
    if (length > TEXT_MAX) {
        return 0;
    }
    char *text = mem_allocate(length + 1, 1);
    CHECK(text != NULL && H5open() >= 0);
    memcpy(text, bytes, length);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    struct recipe recipe = {.member_count = 0};
    size_t file_length = 0;
    unsigned char *file = make_hdf5(&recipe, text, &file_length);
    bool is_archive = recipe.member_count > 0;
    if (is_archive) {
        size_t hdf5_length = file_length;
        unsigned char *hdf5 = file;
        file = make_zip(&recipe, hdf5, hdf5_length, &file_length);
        mem_free(hdf5);
    }
    struct foreign_source source = {.label = "memory"};
    fuzz_add(&source, is_archive ? "model.keras" : "model.h5", file, file_length);
    fuzz_add(&source, "symbols.json", (const uint8_t *)symbols, sizeof symbols - 1);
    fuzz_import(&source, false);
    mem_free(file);
    mem_free(text);
    return 0;
}
