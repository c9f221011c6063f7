/* The readers of foreign formats, one file each: from the source's files to tensors, hints and vocabularies that lie
 * inside the model file itself. Thread: the one that imports.
 *
 * Each row of `foreign_formats` is one format. A new one is a file read_NAME.c, its two functions here, and a row. */
#ifndef ENGINE_IMPORT_READERS_H
#define ENGINE_IMPORT_READERS_H

#include "engine/import/foreign.h"
#include "engine/import/foreign_source.h"

struct foreign_format {
    const char *name;
    /* Whether `file` is what such a model is entered by: looks at the beginning and end alone. */
    bool (*recognise)(const struct source_file *file);
    /* Reads the model that `file` is the entry of; other files of the source as it says. The model is empty but for its
     * arena, whose maximum is set. CORRUPT, UNSUPPORTED, LIMIT, TOO_LARGE, IO, NO_MEMORY, each naming file or tensor
     * and the numbers. */
    enum status (*read)(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                        struct error *error);
};

extern const struct foreign_format foreign_formats[];
extern const size_t foreign_format_count;

/* The format of a file, or NULL. */
const struct foreign_format *foreign_format_of(const struct source_file *file);

/* TensorFlow's checkpoints: V2 (PREFIX.index and PREFIX.data-N-of-M, checksums compared) and V1 (one file). */
bool tensorflow_recognise(const struct source_file *file);
enum status tensorflow_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                            struct error *error) MUST_CHECK;

/* ml5 and deeplearn.js: manifest.json and one file of raw float32 for each variable. */
bool ml5_recognise(const struct source_file *file);
enum status ml5_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                     struct error *error) MUST_CHECK;

/* safetensors, with its metadata as hints. */
bool safetensors_recognise(const struct source_file *file);
enum status safetensors_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                             struct error *error) MUST_CHECK;

/* What torch.save writes: a zip archive since PyTorch 1.6, several pickles with raw data behind them before. */
bool torch_zip_recognise(const struct source_file *file);
enum status torch_zip_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                           struct error *error) MUST_CHECK;
bool torch_legacy_recognise(const struct source_file *file);
enum status torch_legacy_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct error *error) MUST_CHECK;

/* What Lua's torch.save writes, binary or ascii: modules by the tensors of their fields, those of nngraph by their
 * nodes; char-rnn's and torch-rnn's symbols. */
bool torch7_recognise(const struct source_file *file);
enum status torch7_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                        struct error *error) MUST_CHECK;

/* ONNX: initializers, in the file or in others beside it, Constant nodes' tensors, metadata_props, and the graph. */
bool onnx_recognise(const struct source_file *file);
enum status onnx_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                      struct error *error) MUST_CHECK;

/* Keras: HDF5 files with a model's configuration in them or beside, as JSON; .keras archives; and of TensorFlow.js
 * model.json with its shards. */
bool keras_h5_recognise(const struct source_file *file);
enum status keras_h5_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                          struct error *error) MUST_CHECK;
bool keras_zip_recognise(const struct source_file *file);
enum status keras_zip_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                           struct error *error) MUST_CHECK;
bool tfjs_recognise(const struct source_file *file);
enum status tfjs_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                      struct error *error) MUST_CHECK;

/* The vocabularies of a file of its own: a pickle or JSON. A pickle of argparse's options gives hints. What is neither
 * adds nothing, unless `is_demanded`: then INVALID says so. */
enum status vocabulary_file_read(struct foreign_source *source, struct source_file *file, bool is_demanded,
                                 struct foreign_model *model, struct error *error) MUST_CHECK;

/* Reads a file beside the model for its options alone, which become hints: a small one of JSON or a pickle of a
 * dictionary or argparse.Namespace. Others are left out. IO, NO_MEMORY. */
enum status options_file_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                              struct error *error) MUST_CHECK;

#endif
