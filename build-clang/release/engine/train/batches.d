build-clang/release/engine/train/batches.o: engine/train/batches.c \
  engine/base/banned.h engine/train/batches.h engine/train/corpus.h \
  engine/base/status.h engine/text/vocabulary.h engine/base/check.h

engine/base/banned.h:

engine/train/batches.h:

engine/train/corpus.h:

engine/base/status.h:

engine/text/vocabulary.h:

engine/base/check.h:
