/* States of sequences: whose they are, in which order requests enter, when they go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/sequences.h"

static struct sequences *sequences;
static size_t granted_count;

static int create(void **state)
{
    (void)state;
    struct error error;
    granted_count = 0;
    return sequences_create(&sequences, &error) == STATUS_OK ? 0 : -1;
}

static int destroy(void **state)
{
    (void)state;
    sequences_destroy(sequences);
    return 0;
}

static void on_granted(struct turn *turn)
{
    assert_true(turn->is_inside);
    granted_count++;
}

static struct sequence_states *make_states(uint64_t version, size_t bytes)
{
    struct sequence_states *states = sequence_states_create(1);
    struct shape shape = shape_vector(2);
    struct error error;
    assert_non_null(states);
    assert_int_equal(tensor_init(&states->values[0], DTYPE_FLOAT32, &shape, &error), STATUS_OK);
    states->version = version;
    states->bytes = bytes;
    return states;
}

static enum status enter(const char *owner, const char *name, bool is_start, uint64_t now_ms,
                         struct sequence_turn *turn)
{
    struct error error;
    struct sequence_key key = {.owner = owner, .model = "m", .name = name, .is_start = is_start};
    *turn = (struct sequence_turn){.turn.granted = on_granted};
    return sequences_enter(sequences, &key, now_ms, turn, &error);
}

/* Enters, sees the version that the states are of (0: none), and leaves with others. */
static void pass(const char *owner, const char *name, bool is_start, uint64_t seen, struct sequence_states *next)
{
    struct sequence_turn turn;
    const struct sequence_states *states = NULL;
    struct error error;
    assert_int_equal(enter(owner, name, is_start, 0, &turn), STATUS_OK);
    assert_true(turn.turn.is_inside);
    assert_int_equal(sequence_turn_states(&turn, &states, &error), STATUS_OK);
    assert_int_equal(states == NULL ? 0 : states->version, seen);
    sequences_leave(sequences, &turn, next, false);
}

static void test_states_are_kept(void **state)
{
    (void)state;
    struct sequence_turn turn;
    assert_int_equal(enter("", "a", false, 0, &turn), STATUS_INVALID);
    pass("", "a", true, 0, make_states(1, 10));
    pass("", "a", false, 1, make_states(2, 20));
    pass("", "a", false, 2, NULL); /* a failure leaves it as it was */
    pass("", "a", false, 2, NULL);
    assert_int_equal(sequences_bytes(sequences), 20);
    pass("", "a", true, 0, make_states(3, 30));
    assert_int_equal(sequences_bytes(sequences), 30);
    assert_int_equal(enter("", "a", false, 0, &turn), STATUS_OK);
    sequences_leave(sequences, &turn, make_states(4, 40), true);
    assert_int_equal(sequences_count(sequences), 0);
    assert_int_equal(sequences_bytes(sequences), 0);
    assert_int_equal(enter("", "a", false, 0, &turn), STATUS_INVALID);
}

static void test_each_key_has_its_own(void **state)
{
    (void)state;
    struct sequence_turn turn;
    pass("one", "a", true, 0, make_states(1, 10));
    assert_int_equal(enter("other", "a", false, 0, &turn), STATUS_INVALID);
    pass("other", "a", true, 0, make_states(2, 10));
    pass("one", "a", false, 1, NULL);
}

static void test_a_start_that_failed_leaves_nothing(void **state)
{
    (void)state;
    pass("", "a", true, 0, NULL);
    assert_int_equal(sequences_count(sequences), 0);
}

static void test_turns_come_in_order(void **state)
{
    (void)state;
    struct sequence_turn turns[SEQUENCE_WAITERS_MAX + 1];
    const struct sequence_states *states = NULL;
    struct error error;
    for (size_t i = 0; i < SEQUENCE_WAITERS_MAX; i++) {
        assert_int_equal(enter("", "a", i == 0, 0, &turns[i]), STATUS_OK);
        assert_int_equal(turns[i].turn.is_inside, i == 0);
    }
    assert_int_equal(enter("", "a", false, 0, &turns[SEQUENCE_WAITERS_MAX]), STATUS_LIMIT);
    for (size_t i = 0; i < SEQUENCE_WAITERS_MAX; i++) {
        assert_int_equal(granted_count, i);
        assert_int_equal(sequence_turn_states(&turns[i], &states, &error), STATUS_OK);
        assert_int_equal(states == NULL ? 0 : states->version, i);
        sequences_leave(sequences, &turns[i], make_states(i + 1, 1), false);
    }
    assert_int_equal(sequences_count(sequences), 1);
}

static void test_who_waited_for_an_end_is_told(void **state)
{
    (void)state;
    struct sequence_turn first;
    struct sequence_turn second;
    const struct sequence_states *states = NULL;
    struct error error;
    assert_int_equal(enter("", "a", true, 0, &first), STATUS_OK);
    assert_int_equal(enter("", "a", false, 0, &second), STATUS_OK);
    sequences_leave(sequences, &first, NULL, true);
    assert_true(second.turn.is_inside);
    assert_int_equal(sequence_turn_states(&second, &states, &error), STATUS_INVALID);
    sequences_leave(sequences, &second, NULL, false);
    assert_int_equal(sequences_count(sequences), 0);
}

static void test_idle_ones_go(void **state)
{
    (void)state;
    struct sequence_turn turn;
    struct sequence_turn busy;
    pass("", "a", true, 0, make_states(1, 10));
    assert_int_equal(enter("", "b", true, 0, &busy), STATUS_OK);
    assert_int_equal(enter("", "a", false, (uint64_t)SEQUENCE_IDLE_SECONDS * 1000 - 1, &turn), STATUS_OK);
    sequences_leave(sequences, &turn, NULL, false);
    assert_int_equal(enter("", "a", false, (uint64_t)SEQUENCE_IDLE_SECONDS * 2000, &turn), STATUS_INVALID);
    assert_int_equal(sequences_count(sequences), 1); /* who is inside stays */
    sequences_leave(sequences, &busy, NULL, false);
}

static void test_the_oldest_make_room(void **state)
{
    (void)state;
    struct sequence_turn turn;
    char name[16];
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        snprintf(name, sizeof name, "%d", i);
        pass("", name, true, 0, make_states(1, 1));
    }
    pass("", "0", false, 1, NULL); /* the youngest now */
    pass("", "more", true, 0, make_states(1, 1));
    assert_int_equal(sequences_count(sequences), SEQUENCES_MAX);
    assert_int_equal(enter("", "1", false, 0, &turn), STATUS_INVALID);
    pass("", "0", false, 1, make_states(1, SEQUENCES_BYTES_MAX));
    assert_int_equal(sequences_count(sequences), 1); /* the others went, for those bytes */
    pass("", "0", false, 1, make_states(1, (size_t)SEQUENCES_BYTES_MAX + 1));
    assert_int_equal(sequences_count(sequences), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_states_are_kept, create, destroy),
        cmocka_unit_test_setup_teardown(test_each_key_has_its_own, create, destroy),
        cmocka_unit_test_setup_teardown(test_a_start_that_failed_leaves_nothing, create, destroy),
        cmocka_unit_test_setup_teardown(test_turns_come_in_order, create, destroy),
        cmocka_unit_test_setup_teardown(test_who_waited_for_an_end_is_told, create, destroy),
        cmocka_unit_test_setup_teardown(test_idle_ones_go, create, destroy),
        cmocka_unit_test_setup_teardown(test_the_oldest_make_room, create, destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
