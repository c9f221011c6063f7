build-clang/release/engine/train/corpus.o: engine/train/corpus.c \
  engine/base/banned.h engine/train/corpus.h engine/base/status.h \
  engine/text/vocabulary.h engine/base/check.h engine/base/mem.h \
  engine/store/version_directory.h engine/text/utf8.h

engine/base/banned.h:

engine/train/corpus.h:

engine/base/status.h:

engine/text/vocabulary.h:

engine/base/check.h:

engine/base/mem.h:

engine/store/version_directory.h:

engine/text/utf8.h:
