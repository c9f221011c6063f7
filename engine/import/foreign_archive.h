/* A source that is an archive: tar or zip, perhaps compressed, whose files take its place. Thread: the one that
 * imports. */
#ifndef ENGINE_IMPORT_FOREIGN_ARCHIVE_H
#define ENGINE_IMPORT_FOREIGN_ARCHIVE_H

#include "engine/import/foreign_source.h"

/* Whether `file` begins as an archive does: zip, tar, or what gzip, bzip2, xz and zstd make of it. A format that is
 * an archive itself (PyTorch's) is one too. */
bool foreign_archive_recognise(const struct source_file *file);

/* What libarchive needs of the process while it still may open files: a locale whose characters are UTF-8. */
void foreign_archive_prepare(void);

/* Unpacks `file` into memory, source->unpack_bytes_max bytes at most; the source is then what a folder with these files
 * would be, a folder around them all left away. As in a folder, hidden files are left out. TOO_LARGE above the maximum;
 * UNPROCESSABLE, code "bad_archive", for what is no file or folder (links, devices), a path that leads elsewhere, two
 * files of one name; CORRUPT, the same code, for what libarchive cannot read, cut off or encrypted. */
enum status foreign_archive_unpack(struct foreign_source *source, const struct source_file *file,
                                   struct error *error) MUST_CHECK;

#endif
