build-clang/release/engine/train/training_options.o: \
  engine/train/training_options.c engine/base/banned.h \
  engine/train/training_options.h engine/nn/optimizer.h \
  engine/graph/graph.h engine/base/arena.h engine/base/status.h \
  engine/math/tensor.h

engine/base/banned.h:

engine/train/training_options.h:

engine/nn/optimizer.h:

engine/graph/graph.h:

engine/base/arena.h:

engine/base/status.h:

engine/math/tensor.h:
