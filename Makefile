# lstmd: one Makefile for everything. `make help` lists the targets.
#
# FLAVOUR=release|asan|tsan|fuzz chooses how to build (fuzz needs CC=clang); flavours never share objects.

FLAVOUR ?= release
BUILD   ?= build
OUT     := $(BUILD)/$(FLAVOUR)
CC      ?= cc
PORT    ?= 8080
PREFIX  ?= /usr/local

LIBRARIES := libmicrohttpd jansson libuv libsystemd nettle libutf8proc
# OpenBLAS by its own pkg-config file, so that another libblas cannot take its place.
LIBRARIES += openblas

ifneq ($(filter-out release asan tsan fuzz,$(FLAVOUR)),)
$(error FLAVOUR=$(FLAVOUR) is unknown: release, asan, tsan or fuzz)
endif

CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g -fsanitize=thread
CFLAGS_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all

VERSION := 0.1.0
BASE := -std=c17 -D_GNU_SOURCE -DLSTMD_VERSION='"$(VERSION)"' -I. -include engine/base/banned.h -fno-math-errno \
        -ffp-contract=off -fstack-protector-strong -fPIE -pthread
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef \
        -Wformat=2 -Wcast-qual -Wdouble-promotion -Wswitch-enum -Wwrite-strings
ifeq ($(WERROR),1)
WARN += -Werror
endif
LIBRARY_CFLAGS  := $(shell pkg-config --cflags $(LIBRARIES) 2>/dev/null)
LIBRARY_LDFLAGS := $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null) -linih -lm

COMPILE = $(CC) $(BASE) $(WARN) $(LIBRARY_CFLAGS) $(CFLAGS_$(FLAVOUR)) $(CFLAGS) -MMD -MP
LINK    = $(CC) $(CFLAGS_$(FLAVOUR)) $(CFLAGS) -pie -pthread

ENGINE_SOURCES := $(sort $(wildcard engine/*/*.c))
DAEMON_SOURCES := $(sort $(wildcard daemon/*.c))
UNIT_SOURCES   := $(sort $(wildcard tests/unit/test_*.c))

ENGINE_OBJECTS := $(ENGINE_SOURCES:%.c=$(OUT)/%.o)
DAEMON_OBJECTS := $(DAEMON_SOURCES:%.c=$(OUT)/%.o)
UNIT_TESTS     := $(UNIT_SOURCES:%.c=$(OUT)/%)

.DELETE_ON_ERROR:
.SECONDARY:
all: $(OUT)/lstmd ## build the daemon

$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(COMPILE))' | cmp -s - $@ || echo '$(subst ','\'',$(COMPILE))' > $@

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(COMPILE) -c -o $@ $<

$(OUT)/engine/base/mem.o: BASE += -DMAY_ALLOCATE

$(OUT)/libengine.a: $(ENGINE_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(OUT)/lstmd: $(DAEMON_OBJECTS) $(OUT)/libengine.a
	$(LINK) -o $@ $^ $(LIBRARY_LDFLAGS)

$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o $(OUT)/libengine.a
	$(LINK) -o $@ $^ $(LIBRARY_LDFLAGS) -lcmocka

unit: $(UNIT_TESTS) ## build and run the unit and property tests
	@for test in $(UNIT_TESTS); do $$test || exit 1; done

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

FORCE:
.PHONY: all unit clean help FORCE

-include $(wildcard $(OUT)/*/*.d $(OUT)/*/*/*.d)
