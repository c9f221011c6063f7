/* The same hyperparameters, initial values and batches as PyTorch give the same losses over 200 steps, within 1e-3
 * relative: tests/golden/training.py has the other side, and what both share. */
#include <math.h>
#include <unistd.h>

#include "engine/math/gemm.h"
#include "engine/nn/language_model.h"
#include "engine/train/training.h"
#include "tests/golden/training.h"
#include "tests/unit/training_rig.h"

enum { SYMBOLS = 7, LENGTH = 6000, VARIABLE_STRIDE = 100000 };

static char checkpoint_path[96];

static int make_directory(void **state)
{
    (void)state;
    assert_int_equal(gemm_start(NULL), STATUS_OK);
    bool is_made = make_temporary("lstmd-golden");
    snprintf(checkpoint_path, sizeof checkpoint_path, "%s/.training", directory);
    return is_made ? 0 : 1;
}

static uint32_t mix(uint32_t number)
{
    number *= 2654435761U;
    number ^= number >> 15;
    number *= 2246822519U;
    return number ^ number >> 13;
}

static struct corpus *make_corpus(void)
{
    static char text[LENGTH];
    struct corpus_source source = {.parts = {{.text = text, .text_bytes = LENGTH}}, .kind = VOCABULARY_CHARACTERS};
    struct corpus *corpus = NULL;
    struct vocabulary *vocabulary = NULL;
    struct error error;
    for (uint32_t i = 0; i < LENGTH; i++) {
        uint32_t word = mix(i);
        text[i] = (char)('a' + (word % 10 == 0 ? word / 10 : i) % SYMBOLS);
    }
    assert_ok(corpus_create(&source, &corpus, &error), error);
    assert_ok(corpus_make_vocabulary(corpus, NULL, &(struct vocabulary_limits){0}, &vocabulary, &error), error);
    assert_ok(corpus_encode(corpus, vocabulary, &error), error);
    vocabulary_unref(vocabulary);
    return corpus;
}

static void set_initial(const struct train_step *step, struct values *values)
{
    for (uint32_t v = 0; v < step->variable_count; v++) {
        struct tensor *tensor = values_tensor(values, step->variables[v]);
        for (uint32_t i = 0; i < tensor_element_count(tensor); i++) {
            ((float *)tensor->data)[i] = (float)(1.6 * ((double)mix(i + VARIABLE_STRIDE * v) / 4294967296.0 - 0.5));
        }
    }
}

struct curve {
    const char *request;
    const double (*losses)[2];
    uint64_t steps;
};

static void compare(const struct curve *curve, uint64_t step, const char *what, double loss, double golden)
{
    if (!(fabs(loss - golden) <= 1e-3 * golden)) {
        fail_msg("%s: the %s loss of step %llu is %.7f, PyTorch's %.7f", curve->request, what, (unsigned long long)step,
                 loss, golden);
    }
}

static void on_event(void *context, struct training *training, const struct training_event *event)
{
    (void)training;
    struct curve *curve = context;
    if (event->kind == TRAINING_PROGRESS && event->is_evaluation) {
        assert_int_equal(event->step, ++curve->steps);
        compare(curve, event->step, "training", event->train_loss, curve->losses[event->step - 1][0]);
        compare(curve, event->step, "validation", event->validation_loss, curve->losses[event->step - 1][1]);
    }
}

/* Trains with `more` fields of the request. */
static void check(const char *more, const double losses[GOLDEN_STEPS][2], size_t embedding, double forget_bias)
{
    char text[512];
    struct error error;
    struct graph *graph = NULL;
    struct values *values = NULL;
    struct output loss;
    struct train_step step;
    struct training_options options;
    struct training *training = NULL;
    struct corpus *corpus = make_corpus();
    struct language_model_options model = {.layers = 2,
                                           .units = 16,
                                           .embedding = embedding,
                                           .has_forget_bias = true,
                                           .forget_bias = forget_bias,
                                           .vocabulary_size = SYMBOLS,
                                           .has_train_head = true};
    snprintf(text, sizeof text,
             "{\"batch\":8,\"sequence_length\":12,\"max_steps\":%d,\"evaluate_every_steps\":1,"
             "\"checkpoint_seconds\":1e6,%s}",
             GOLDEN_STEPS, more);
    json_t *request = json_loads(text, 0, NULL);
    assert_non_null(request);
    assert_ok(training_options_read(request, &options, &error), error);
    json_decref(request);
    assert_ok(graph_create(&graph, &error), error);
    assert_ok(language_model_build(graph, &model, &error), error);
    const char *head = options.label_smoothing > 0 ? "train/smoothed_loss:0" : "train/loss:0";
    assert_ok(graph_find_output(graph, head, &loss, &error), error);
    assert_ok(train_step_build(graph, loss, &options.step, &step, &error), error);
    assert_ok(values_create(graph, &values, &error), error);
    assert_ok(values_initialize(values, graph, 1, &error), error);
    set_initial(&step, values);
    struct curve curve = {.request = more, .losses = losses};
    struct training_parts parts = {.graph = graph,
                                   .values = values,
                                   .step = &step,
                                   .corpus = corpus,
                                   .checkpoint_path = checkpoint_path,
                                   .threads = 2,
                                   .callbacks = {on_event, &curve}};
    assert_ok(training_create(&parts, &options, &training, &error), error);
    assert_ok(training_run(training, &error), error);
    assert_int_equal(curve.steps, GOLDEN_STEPS);
    training_destroy(training);
    corpus_destroy(corpus);
    values_destroy(values);
    graph_unref(graph);
}

static void test_sgd(void **state)
{
    (void)state;
    check("\"clip_norm\":2,\"schedule\":\"constant\",\"optimizer\":{\"name\":\"sgd\",\"learning_rate\":4}", GOLDEN_SGD,
          0, 0);
}

static void test_adam(void **state)
{
    (void)state;
    check("\"schedule\":{\"name\":\"step\",\"after_epochs\":1,\"every_epochs\":1,\"factor\":0.8},"
          "\"optimizer\":{\"name\":\"adam\",\"learning_rate\":0.01,\"beta1\":0.8,\"beta2\":0.99}",
          GOLDEN_ADAM, 0, 1);
}

static void test_adamw(void **state)
{
    (void)state;
    check("\"schedule\":{\"name\":\"cosine\",\"decay_steps\":150,\"final_fraction\":0.1,\"warmup_steps\":20},"
          "\"optimizer\":{\"name\":\"adamw\",\"learning_rate\":0.01,\"weight_decay\":0.1}",
          GOLDEN_ADAMW, 5, 1);
}

static void test_momentum(void **state)
{
    (void)state;
    check("\"clip_norm\":null,\"clip_value\":0.05,\"schedule\":\"constant\",\"optimizer\":{\"name\":\"momentum\","
          "\"learning_rate\":1,\"momentum\":0.9,\"use_nesterov\":true,\"weight_decay\":0.001}",
          GOLDEN_MOMENTUM, 0, 1);
}

static void test_rmsprop(void **state)
{
    (void)state;
    check("\"schedule\":{\"name\":\"exponential\",\"factor\":0.5,\"decay_steps\":100},"
          "\"optimizer\":{\"name\":\"rmsprop\",\"learning_rate\":0.01,\"decay\":0.95}",
          GOLDEN_RMSPROP, 0, 1);
}

static void test_adagrad(void **state)
{
    (void)state;
    check("\"label_smoothing\":0.1,\"schedule\":\"constant\","
          "\"optimizer\":{\"name\":\"adagrad\",\"learning_rate\":0.3}",
          GOLDEN_ADAGRAD, 5, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd),      cmocka_unit_test(test_adam),    cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_momentum), cmocka_unit_test(test_rmsprop), cmocka_unit_test(test_adagrad),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
