// A backend library with WAMR's interface, for the tests. Macros make variants of it.
//
// A model is a text: "TOY", then words, then "end". The outputs of a compute are vectors of f32: each element is the
// sum of the inputs' elements at its place, times FACTOR, plus "add", plus the index of the output.
//
//   inputs N, outputs N, add N   what it computes
//   slow N                       a compute takes N milliseconds
//   fail N                       a compute returns N
//   pad N                        each output has N more elements, which are 0
//   gate                         a compute waits as long as there is a file LOG.gate
//   loadgate                     a load does
//   overclaim                    get_output says that it has written more than the buffer holds
//   overrun                      get_output writes past the end of the buffer
//   cut                          get_output writes the start of an output into a short buffer, and succeeds
//   tell                         get_output tells the size that it needs
//   blind                        compute and get_output say what there is not: an error number of their own
//
// Like WAMR's backend for onnxruntime it keeps the pointers to the data of inputs until the compute. It keeps the one
// to the model's bytes until it is deinitialized.
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef FACTOR
#define FACTOR 1
#endif

typedef struct { uint8_t *pointer; uint32_t length; } bytes;
typedef struct { bytes *pointer; uint32_t length; } parts;
typedef struct { uint32_t *pointer; uint32_t length; } sizes;
typedef struct { sizes *dimensions; uint8_t type; bytes data; } tensor;

enum { MOST = 8, CONTEXTS = 4 };

typedef struct {
    uint32_t inputs, outputs, slow, fail, pad;
    int overclaim, overrun, cut, tell, blind, gate, loadgate;
    float add;
} model;

typedef struct {
    const float *data[MOST];
    uint32_t length[MOST];
    float *output;
    uint32_t elements;
} context;

typedef struct {
    atomic_int inside;
    int loaded;
    const uint8_t *bytes;
    model model;
    context contexts[CONTEXTS];
    uint32_t opened;
} instance;

// Each event is one letter in the file LOG: the library is [o]pened and [c]losed, a context [i]nitialized and
// [d]einitialized, [l]oaded, an [e]xecution context is initialized, [w] a call waits at the gate, [!] calls that should
// exclude each other did not, [x] a model's bytes changed before its context was deinitialized.
static void record(char event) {
#ifdef LOG
    int file = open(LOG, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file >= 0) {
        if (write(file, &event, 1) != 1)
            abort();
        close(file);
    }
#else
    (void)event;
#endif
}

static void nap(uint32_t milliseconds) {
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static void wait_at_gate(void) {
#ifdef LOG
    record('w');
    while (!access(LOG ".gate", F_OK))
        nap(1);
#endif
}

__attribute__((constructor)) static void opened(void) {
#ifdef SLOW_OPEN
    nap(300);
#endif
    record('o');
}

__attribute__((destructor)) static void closed(void) { record('c'); }

static atomic_int inside_library;

static void enter(instance *of) {
    if (of && atomic_exchange(&of->inside, 1))
        record('!');
#ifdef EXCLUSIVE
    if (atomic_exchange(&inside_library, 1))
        record('!');
#endif
}

static uint32_t leave(instance *of, uint32_t result) {
#ifdef EXCLUSIVE
    atomic_store(&inside_library, 0);
#else
    (void)inside_library;
#endif
    if (of)
        atomic_store(&of->inside, 0);
    return result;
}

uint32_t init_backend(void **out) {
    enter(NULL);
#ifdef FAIL_INIT
    return leave(NULL, 5);
#endif
    *out = calloc(1, sizeof(instance));
    record('i');
    return leave(NULL, 0);
}

#ifndef NO_DEINIT
uint32_t deinit_backend(void *of) {
    instance *self = of;
    enter(self);
    record('d');
    if (self->bytes && memcmp(self->bytes, "TOY", 3))
        record('x');
    for (uint32_t i = 0; i < CONTEXTS; i++)
        free(self->contexts[i].output);
    leave(self, 0);
    free(self);
    return 0;
}
#endif

static uint32_t parse(instance *self, const char *text, size_t length) {
    char copy[256], word[32];
    int at = 0, used = 0, ended = 0;
    uint32_t number = 0;
    if (length >= sizeof copy || length < 3 || memcmp(text, "TOY", 3))
        return 2;
    memcpy(copy, text, length);
    copy[length] = 0;
    model *m = &self->model;
    *m = (model){.inputs = 1, .outputs = 1};
    for (at = 3; !ended && sscanf(copy + at, "%31s%n", word, &used) == 1; at += used) {
        const char *flags[] = {"overclaim", "overrun", "cut", "tell", "blind", "gate", "loadgate", "end"};
        int *set[] = {&m->overclaim, &m->overrun, &m->cut, &m->tell, &m->blind, &m->gate, &m->loadgate, &ended};
        int known = 0;
        for (int i = 0; i < 8; i++)
            if (!strcmp(word, flags[i]))
                known = *set[i] = 1;
        if (known)
            continue;
        at += used;
        if (sscanf(copy + at, "%u%n", &number, &used) != 1)
            return 2;
        if (!strcmp(word, "inputs"))
            m->inputs = number;
        else if (!strcmp(word, "outputs"))
            m->outputs = number;
        else if (!strcmp(word, "add"))
            m->add = (float)number;
        else if (!strcmp(word, "slow"))
            m->slow = number;
        else if (!strcmp(word, "fail"))
            m->fail = number;
        else if (!strcmp(word, "pad"))
            m->pad = number;
        else
            return 2;
    }
    if (!ended || m->inputs > MOST || m->outputs > MOST)
        return 2;
    if (m->loadgate)
        wait_at_gate();
    self->loaded = 1;
    record('l');
    return 0;
}

uint32_t load(void *of, parts *given, uint32_t encoding, uint32_t target, uint32_t *graph) {
    instance *self = of;
    enter(self);
    if (self->loaded)
        return leave(self, 4);
    if (given->length != 1 || encoding != 1 || target != 0)
        return leave(self, 1);
    *graph = 7;
    uint32_t result = parse(self, (const char *)given->pointer[0].pointer, given->pointer[0].length);
    self->bytes = result ? NULL : given->pointer[0].pointer;
    return leave(self, result);
}

#ifndef NO_NAMES
uint32_t load_by_name_with_config(void *of, const char *name, uint32_t length, const char *config,
                                  uint32_t config_length, uint32_t *graph) {
    instance *self = of;
    enter(self);
    if (strlen(name) != length || strlen(config) != config_length)
        return leave(self, 1);
    if (strcmp(name, "adder"))
        return leave(self, 103);
    *graph = 7;
    char text[128];
    snprintf(text, sizeof text, "TOY %s end", config);
    return leave(self, parse(self, text, strlen(text)));
}

uint32_t load_by_name(void *of, const char *name, uint32_t length, uint32_t *graph) {
    return load_by_name_with_config(of, name, length, "add 1", 5, graph);
}
#endif

uint32_t init_execution_context(void *of, uint32_t graph, uint32_t *out) {
    instance *self = of;
    enter(self);
    if (!self->loaded || graph != 7)
        return leave(self, 1);
    if (self->opened == CONTEXTS)
        return leave(self, 7);
    *out = self->opened++;
    record('e');
    return leave(self, 0);
}

uint32_t set_input(void *of, uint32_t at, uint32_t index, tensor *given) {
    instance *self = of;
    enter(self);
    if (at >= self->opened || index >= self->model.inputs || given->type != 1)
        return leave(self, 1);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < given->dimensions->length; i++)
        elements *= given->dimensions->pointer[i];
    if (elements * 4 != given->data.length)
        return leave(self, 1);
    self->contexts[at].data[index] = (const float *)given->data.pointer;
    self->contexts[at].length[index] = given->data.length / 4;
    return leave(self, 0);
}

#ifndef NO_COMPUTE
uint32_t compute(void *of, uint32_t at) {
    instance *self = of;
    enter(self);
    if (at >= self->opened)
        return leave(self, 1);
    model *m = &self->model;
    context *c = &self->contexts[at];
    for (uint32_t i = 0; i < m->inputs; i++)
        if (!c->data[i] || c->length[i] != c->length[0])
            return leave(self, 1);
    if (m->slow)
        nap(m->slow);
    if (m->gate)
        wait_at_gate();
    // A full context has the outputs until then.
    if (m->fail && m->fail != 101)
        return leave(self, m->fail);
    c->elements = (m->inputs ? c->length[0] : 1) + m->pad;
    c->output = realloc(c->output, c->elements * sizeof(float) + 1);
    memset(c->output, 0, c->elements * sizeof(float));
    for (uint32_t place = 0; place < c->elements - m->pad; place++) {
        float sum = 0;
        for (uint32_t i = 0; i < m->inputs; i++)
            sum += c->data[i][place];
        c->output[place] = sum * FACTOR + m->add;
    }
    return leave(self, m->blind ? 100 : m->fail);
}
#endif

uint32_t get_output(void *of, uint32_t at, uint32_t index, bytes *buffer, uint32_t *size) {
    instance *self = of;
    enter(self);
    if (at >= self->opened || !self->contexts[at].output)
        return leave(self, 1);
    model *m = &self->model;
    context *c = &self->contexts[at];
    uint32_t length = c->elements * sizeof(float);
    if (index >= m->outputs)
        return leave(self, m->blind ? 4242 : 1);
    for (uint32_t i = 0; i < c->elements - m->pad; i++)
        c->output[i] += (float)index;
    if (buffer->length < length && m->cut) {
        memcpy(buffer->pointer, c->output, buffer->length);
        *size = buffer->length;
    } else if (buffer->length < length) {
        if (m->tell)
            *size = length;
        for (uint32_t i = 0; i < c->elements - m->pad; i++)
            c->output[i] -= (float)index;
        return leave(self, 7);
    } else {
        memcpy(buffer->pointer, c->output, length);
        *size = m->overclaim ? buffer->length + 4 : length;
        if (m->overrun)
            buffer->pointer[buffer->length] = 1;
    }
    for (uint32_t i = 0; i < c->elements - m->pad; i++)
        c->output[i] -= (float)index;
    return leave(self, 0);
}
