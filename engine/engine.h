/* The engine's border: all that the daemon includes (besides engine/base). Build, run, train, save, load and generate;
 * no HTTP, no event loop, no systemd, no logging, no exit. Each header says on which thread its calls may run. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "engine/base/status.h"
#include "engine/decode/batcher.h"
#include "engine/decode/decode_score.h"
#include "engine/decode/generation.h"
#include "engine/import/importer.h"
#include "engine/model/adapted_text.h"
#include "engine/model/model.h"
#include "engine/model/model_export.h"
#include "engine/model/model_import.h"
#include "engine/model/served_graph.h"
#include "engine/model/snapshot.h"
#include "engine/model/training_job.h"
#include "engine/nn/presets.h"
#include "engine/store/safetensors.h"
#include "engine/store/tensor_json.h"
#include "engine/store/version_directory.h"
#include "engine/text/utf8.h"
#include "engine/text/vocabulary.h"
#include "engine/train/ranks.h"
#include "engine/train/training.h"

/* What this process computes with, for --version, logs and replies. Cheap. */
struct engine_info {
    const char *version; /* "0.1.0" */
    const char *kernels; /* "avx512", "avx2", "plain" */
    const char *blas;    /* "SkylakeX", "Haswell": OpenBLAS's core type */
};
struct engine_info engine_info(void);

/* Once per process, before anything else, engine_info too: OpenBLAS loaded, for one thread (ours are the threads) and
 * with this CPU's kernels. IO: there is no OpenBLAS. Thread: main, before any other. */
enum status engine_start(struct error *error) MUST_CHECK;

#endif
