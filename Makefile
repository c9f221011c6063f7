# lstmd: one Makefile for everything. `make help` lists the targets; ARCHITECTURE.md is the map.
#
# FLAVOUR=release|asan|tsan|fuzz chooses how to build (fuzz needs CC=clang); flavours never share objects.
# CC=clang builds beside gcc in BUILD=build/clang, so the two never share objects either; a cross compiler in its own.
# MPI=1 builds beside both, in build/mpi, a trainer for several processes (config/packages mpi: what it takes).

FLAVOUR    ?= release
CC         ?= cc
BUILD      ?= build$(if $(MPI),/mpi)$(if $(findstring clang,$(CC)),/clang)$(if $(findstring aarch64,$(CC)),/aarch64)
OUT        := $(BUILD)/$(FLAVOUR)
PORT       ?= 8080
MODELS     ?= models
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
STATEDIR   ?= /var/lib
JOBS       := $(shell nproc)

# Their Debian packages stand in config/packages.
LIBRARIES := libmicrohttpd jansson libuv libsystemd nettle libutf8proc libseccomp libzip libarchive snappy libprotobuf-c
LIBRARIES += gnutls hdf5
# OpenBLAS by its own names here and in engine/math/gemm.c, so that another libblas cannot take its place. It is loaded
# there and not linked.
LIBRARIES += openblas

ifneq ($(filter-out release asan tsan fuzz,$(FLAVOUR)),)
$(error FLAVOUR=$(FLAVOUR) is unknown: release, asan, tsan or fuzz)
endif

# What a sanitizer reports names lines; what a debugger needs besides would take a fifth of the building.
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_asan    := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g1 -fsanitize=thread
CFLAGS_fuzz    := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
                  -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION

VERSION := 0.1.0
# What protoc-c makes of .proto files, the same for all flavours.
GENERATED := $(BUILD)/generated
BASE := -std=c17 -D_GNU_SOURCE -DLSTMD_VERSION='"$(VERSION)"' -I. -I$(GENERATED) -include engine/base/banned.h \
        -fno-math-errno -ffp-contract=off -fstack-protector-strong -fPIE -pthread
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wformat=2 -Wcast-qual -Wdouble-promotion -Wswitch-enum -Wwrite-strings
# Not part of $(OUT)/flags: it changes no object, and `make run` after `make test` should build nothing.
ERRORS := $(if $(filter 1,$(WERROR)),-Werror)
ifneq ($(MPI),)
LIBRARIES += ompi-c
endif
LIBRARY_CFLAGS  := $(shell pkg-config --cflags $(LIBRARIES) 2>/dev/null)
LIBRARY_LDFLAGS := $(shell pkg-config --libs $(filter-out openblas,$(LIBRARIES)) 2>/dev/null) -linih -lm

# Most of a unit test runs once: to compile it thoroughly takes longer than it then saves.
FLAGS_tests := -O0 -U_FORTIFY_SOURCE
$(OUT)/tests/unit/%.o: private FOLDER_FLAGS := $(if $(findstring aarch64,$(CC)),,$(FLAGS_tests))

# Flags of one object: FLAGS_ and its path.
FLAGS_engine/base/mem := -DMAY_ALLOCATE
FLAGS_tests/unit/test_measure := -DMAY_ALLOCATE
FLAGS_engine/import/hdf5_file := -DMAY_NAME_CTIME
FLAGS_engine/import/hdf5_memory := -DMAY_NAME_CTIME
FLAGS_tests/fuzz/fuzz_keras_recipe := -DMAY_NAME_CTIME
# Elementwise kernels: loops for the vectoriser, one object for each instruction set, chosen by CPU flags at run time.
POINTWISE_FLAGS := -O3 -fno-trapping-math -fno-signed-zeros
FLAGS_engine/math/pointwise_plain := $(POINTWISE_FLAGS)
FLAGS_engine/math/gemm_packed_plain := -O3
# Loops over elements, for the vectoriser too; signed zeros stay what they are.
$(foreach file,ops_activation ops_arithmetic ops_compare ops_unary reduction,\
    $(eval FLAGS_engine/graph/$(file) := -O3 -fno-trapping-math))
# A tile is compiled for each number of rows: too much for gcc to follow its variables, or, with every load checked,
# to optimise further or to check again what the address sanitizer finds. Fuzzers look for nothing in tiles.
TILE_FLAGS_asan := -Og -fno-sanitize=alignment,null,object-size,pointer-overflow
TILE_FLAGS_fuzz := -fno-sanitize=all
TILE_FLAGS      := -g1 $(TILE_FLAGS_$(FLAVOUR))
FLAGS_engine/math/rnn_packed_neon := $(TILE_FLAGS)
FLAGS_engine/math/rnn_bf16_neon := $(TILE_FLAGS)
FLAGS_engine/math/rnn_int8_neon := $(TILE_FLAGS)
ifneq ($(filter x86_64%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
FLAGS_engine/math/pointwise_avx2   := $(POINTWISE_FLAGS) -mavx2
FLAGS_engine/math/pointwise_avx512 := $(POINTWISE_FLAGS) -mavx512f -mprefer-vector-width=512
# The recurrent kernels are built once for each instruction set and chosen at run time (engine/math/rnn_packed.c).
FLAGS_engine/math/rnn_packed_avx2   := $(TILE_FLAGS) -mavx2 -mfma
FLAGS_engine/math/rnn_packed_avx512 := $(TILE_FLAGS) -mavx512f -mfma
FLAGS_engine/math/gemm_packed_avx2   := $(TILE_FLAGS) -mavx2 -mfma
FLAGS_engine/math/gemm_packed_avx512 := $(TILE_FLAGS) -mavx512f -mfma
FLAGS_engine/math/rnn_bf16_avx2     := $(TILE_FLAGS) -mavx2 -mfma
FLAGS_engine/math/rnn_bf16_avx512   := $(TILE_FLAGS) -mavx512f -mfma -mavx512bf16
FLAGS_engine/math/rnn_int8_avx2     := $(TILE_FLAGS) -mavx2 -mfma
FLAGS_engine/math/rnn_int8_avx512   := $(TILE_FLAGS) -mavx512f -mfma -mavx512vnni
FLAGS_engine/math/rnn_fp32_pairs_avx512 := $(TILE_FLAGS) -mavx512f -mfma
FLAGS_engine/math/rnn_int8_pairs_avx512 := $(TILE_FLAGS) -mavx512f -mfma -mavx512bw -mavx512vnni
else ifneq ($(filter aarch64%,$(shell $(CC) -dumpmachine 2>/dev/null)),)
FLAGS_engine/math/rnn_int8_dotprod_neon := $(TILE_FLAGS) -march=armv8.2-a+dotprod
endif

COMPILE = $(CC) $(BASE) $(WARN) $(LIBRARY_CFLAGS) $(CFLAGS_$(FLAVOUR)) $(CFLAGS) -MMD -MP
# All that decides what an object is.
ALL_FLAGS = $(COMPILE) $(foreach name,$(sort $(filter FLAGS_%,$(.VARIABLES))),$(name)=$($(name)))
LINK    = $(CC) $(CFLAGS_$(FLAVOUR)) $(CFLAGS) -pie -pthread
# Hundreds of test programs, each with all of the daemon's symbols: gold links them five times as fast.
GOLD      := $(if $(findstring aarch64,$(CC)),,$(if $(shell command -v ld.gold),-fuse-ld=gold))
LINK_TEST = $(LINK) $(GOLD)

# Who trains together: one of two files.
RANKS          := engine/train/ranks_$(if $(MPI),mpi,alone).c
ENGINE_SOURCES := $(sort $(filter-out engine/train/ranks_%,$(wildcard engine/*/*.c)) $(RANKS))
DAEMON_SOURCES := $(sort $(wildcard daemon/*.c))
UNIT_SOURCES   := $(sort $(wildcard tests/unit/test_*.c))
FUZZ_SOURCES   := $(sort $(wildcard tests/fuzz/fuzz_*.c))
PROTOS         := $(sort $(wildcard engine/*/*.proto))

PROTO_OBJECTS  := $(PROTOS:%.proto=$(OUT)/%.pb-c.o)
PROTO_HEADERS  := $(PROTOS:%.proto=$(GENERATED)/%.pb-c.h)
ENGINE_OBJECTS := $(ENGINE_SOURCES:%.c=$(OUT)/%.o) $(PROTO_OBJECTS)
DAEMON_OBJECTS := $(DAEMON_SOURCES:%.c=$(OUT)/%.o)
UNIT_TESTS     := $(UNIT_SOURCES:%.c=$(OUT)/%)
FUZZ_REPLAYS   := $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=$(OUT)/tests/fuzz/replay_%)
FUZZ_TARGETS   := $(FUZZ_SOURCES:%.c=$(OUT)/%)

SUBMAKE := $(MAKE) --no-print-directory

.DELETE_ON_ERROR:
.SECONDARY:

# ---- Building

all: $(OUT)/lstmd $(if $(filter release,$(FLAVOUR)),$(BUILD)/lstmd) ## build the daemon: build/lstmd

$(BUILD)/lstmd: $(BUILD)/release/lstmd
	@ln -sfn release/lstmd $@

# New flags rebuild everything; with the same ones nothing is to do, and `make -q all` tells. A missing library is one
# line here, not a page of compiler errors.
ifneq ($(file <$(OUT)/flags),$(strip $(ALL_FLAGS)))
$(OUT)/flags: FORCE
	@pkg-config --exists $(LIBRARIES) 2>/dev/null || \
	    { echo "libraries are missing: run 'config/packages build$(if $(MPI), mpi)'" >&2; exit 1; }
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(strip $(ALL_FLAGS)))' > $@
endif

$(GENERATED)/%.pb-c.c $(GENERATED)/%.pb-c.h: %.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=$(<D) --c_out=$(GENERATED)/$(<D) $<

$(PROTO_OBJECTS): $(OUT)/%.o: $(GENERATED)/%.c $(OUT)/flags
	@mkdir -p $(@D)
	$(COMPILE) -w -c -o $@ $<

$(OUT)/%.o: %.c $(OUT)/flags | $(PROTO_HEADERS)
	@mkdir -p $(@D)
	$(COMPILE) $(FOLDER_FLAGS) $(FLAGS_$*) $(ERRORS) -c -o $@ $<

$(OUT)/daemon/api_page.o: daemon/ui/page.html

$(OUT)/libengine.a: $(ENGINE_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

# The daemon without its main, for unit tests of its modules.
$(OUT)/libdaemon.a: $(filter-out $(OUT)/daemon/main.o,$(DAEMON_OBJECTS))
	@rm -f $@
	$(AR) rcs $@ $^

$(OUT)/lstmd: $(DAEMON_OBJECTS) $(OUT)/libengine.a
	$(LINK) -o $@ $^ $(LIBRARY_LDFLAGS)

$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o $(OUT)/libdaemon.a $(OUT)/libengine.a
	$(LINK_TEST) -o $@ $^ $(LIBRARY_LDFLAGS) -lcmocka

# Drives the engine's C calls for tests/conformance/run.
$(OUT)/tests/conformance/drive: $(OUT)/tests/conformance/drive.o $(OUT)/libengine.a
	$(LINK) -o $@ $^ $(LIBRARY_LDFLAGS)

conformance-driver: $(OUT)/tests/conformance/drive

# A fuzz target with a main of its own: gives it each corpus file once, with any compiler.
$(OUT)/tests/fuzz/replay_%: $(OUT)/tests/fuzz/replay.o $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/libdaemon.a $(OUT)/libengine.a
	$(LINK_TEST) -o $@ $^ $(LIBRARY_LDFLAGS)

$(OUT)/tests/fuzz/fuzz_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/libdaemon.a $(OUT)/libengine.a
	$(LINK) -fsanitize=fuzzer -o $@ $^ $(LIBRARY_LDFLAGS)

# A measurement in C of its own.
$(OUT)/tests/bench/%: $(OUT)/tests/bench/%.o $(OUT)/libengine.a
	$(LINK) -o $@ $^ $(LIBRARY_LDFLAGS)

# The tests of the kernels alone, without any library: for processors that only an emulator has.
CROSS_TESTS   := $(addprefix $(OUT)/tests/cross/test_,\
                     rnn_packed rnn_narrow rnn_functions rnn_dense rnn_cells gemm_packed decode_plan batcher)
CROSS_OBJECTS := $(filter-out %/gemm.o %/vocabulary_json.o %/text_state_base64.o,\
                     $(foreach folder,base math text decode,$(filter $(OUT)/engine/$(folder)/%,$(ENGINE_OBJECTS))))

$(OUT)/tests/cross/test_%: $(OUT)/tests/unit/test_%.o $(OUT)/tests/cross/sha256.o $(CROSS_OBJECTS)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ -lm

cross-tests: $(CROSS_TESTS)

unit-tests: $(UNIT_TESTS)
fuzz-replays: $(FUZZ_REPLAYS)
fuzz-targets: $(FUZZ_TARGETS)

# ---- Running and testing

run: ## install what is missing, build, serve on 127.0.0.1:$(PORT) with the demo model
	@config/packages build
	@$(SUBMAKE) -q all >/dev/null 2>&1 || echo "lstmd: building (half a minute the first time)"
	@$(SUBMAKE) -s -j$(JOBS) all
	@mkdir -p $(MODELS)
	@exec $(BUILD)/lstmd serve --listen 127.0.0.1:$(PORT) --models $(MODELS) --demo config/demo

test: ## install what the tests need, build, run all tests (minutes)
	@config/packages build test
	@tests/run

test-all: ## also sanitizers for everything, clang, fuzzing, aarch64, a booted systemd (up to an hour)
	@config/packages build test test-all
	@config/packages aarch64 || true
	@config/packages mpi || true
	@tests/run --all

unit: ## build and run the unit and property tests of one FLAVOUR
	@tests/run --suite unit --flavour $(FLAVOUR) --cc '$(CC)'

integration: ## build and run the tests of the daemon over HTTP, of one FLAVOUR
	@tests/run --suite integration --flavour $(FLAVOUR) --cc '$(CC)'

conformance: ## build and run TensorFlow's cases, through C calls and over HTTP, of one FLAVOUR
	@tests/run --suite conformance --flavour $(FLAVOUR)

aarch64: ## build the kernels' tests for aarch64 and run them under qemu
	@config/packages aarch64 || true
	@tests/run --suite aarch64

mpi: ## build with MPI=1 and train with two ranks
	@config/packages mpi || true
	@tests/run --suite mpi

fuzz: ## run each libFuzzer target for a while (clang)
	@tests/run --suite fuzz --flavour fuzz

tidy: ## check the rules of the house: include order, sizes, docstrings, names
	@tests/run --suite house

format: ## lay out every C file as .clang-format says
	clang-format -i $$(git ls-files '*.c' '*.h')

# Built with flags of their own; the plain versions of the same kernels are looked at.
INSTRUCTION_SETS := %_avx2.c %_avx512.c %_neon.c

lint: ## clang-tidy and shellcheck over everything
	@$(SUBMAKE) -k -j$(JOBS) $(addsuffix .lint,$(filter-out $(INSTRUCTION_SETS),$(ENGINE_SOURCES) $(DAEMON_SOURCES)))
	shellcheck config/packages tests/fuzz/coverage .ci/run

%.c.lint: $(PROTO_HEADERS) FORCE
	@said=$$(clang-tidy --quiet $*.c -- $(BASE) -DMAY_ALLOCATE -DMAY_NAME_CTIME $(LIBRARY_CFLAGS) \
	    $(if $(filter engine/base/status,$*),,-include tests/lint.h) 2>&1) || \
	    { printf '%s\n' "$$said" | grep -v 'warnings generated'; exit 1; }

bench: all ## measure decoding and training beside the peers that are installed, serving, first bytes and runs
	$(SUBMAKE) $(BUILD)/release/tests/bench/roofline
	tests/bench/compare $(BUILD)/lstmd
	tests/bench/http $(BUILD)/lstmd
	tests/bench/busy $(BUILD)/lstmd
	tests/bench/import $(BUILD)/lstmd
	tests/bench/load $(BUILD)/lstmd
	tests/bench/latency $(BUILD)/lstmd
	tests/bench/streams $(BUILD)/lstmd
	tests/bench/crowd $(BUILD)/lstmd
	$(BUILD)/lstmd bench serve
	$(BUILD)/lstmd bench serve --precision int8
	$(BUILD)/lstmd bench first-byte
	$(BUILD)/lstmd bench run
	$(SUBMAKE) $(BUILD)/release/tests/bench/bench_rnn
	$(BUILD)/release/tests/bench/bench_rnn

demo-model: ## train the bundled demo model again from its public-domain text
	@config/packages build demo
	@$(SUBMAKE) -j$(JOBS) all
	@config/demo-model $(BUILD)

packages: ## install the Debian packages that building and testing need
	@config/packages build test

# ---- Installing

UNITDIR      := $(PREFIX)/lib/systemd/system
FILL_IN_UNIT := sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@STATEDIR@|$(STATEDIR)|g'

install: all ## install binary, configuration, units and demo model (honours DESTDIR, PREFIX)
	install -D -m 755 $(OUT)/lstmd $(DESTDIR)$(PREFIX)/bin/lstmd
	install -D -m 644 config/lstmd.conf $(DESTDIR)$(PREFIX)/share/lstmd/lstmd.conf
	test -e $(DESTDIR)$(SYSCONFDIR)/lstmd/lstmd.conf || \
	    install -D -m 644 config/lstmd.conf $(DESTDIR)$(SYSCONFDIR)/lstmd/lstmd.conf
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	$(FILL_IN_UNIT) systemd/lstmd.service > $(DESTDIR)$(UNITDIR)/lstmd.service
	$(FILL_IN_UNIT) systemd/lstmd.socket > $(DESTDIR)$(UNITDIR)/lstmd.socket
	$(FILL_IN_UNIT) systemd/lstmd.sysusers > $(DESTDIR)$(PREFIX)/lib/sysusers.d/lstmd.conf
	$(FILL_IN_UNIT) systemd/lstmd.tmpfiles > $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/lstmd.conf
	cd config/demo && find . -path './*/*' -type f \
	    -exec install -D -m 644 '{}' '$(abspath $(DESTDIR)$(PREFIX)/share/lstmd)/demo/{}' ';'

uninstall: ## remove what install put there, but for configuration and models
	rm -f $(DESTDIR)$(PREFIX)/bin/lstmd $(DESTDIR)$(UNITDIR)/lstmd.service $(DESTDIR)$(UNITDIR)/lstmd.socket
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/lstmd.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/lstmd.conf
	rm -rf $(DESTDIR)$(PREFIX)/share/lstmd

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

FORCE:
.PHONY: all run test test-all unit integration conformance fuzz unit-tests cross-tests aarch64 \
        fuzz-replays fuzz-targets conformance-driver mpi tidy format lint bench demo-model packages install uninstall \
        clean help FORCE

-include $(wildcard $(OUT)/*/*.d $(OUT)/*/*/*.d)
