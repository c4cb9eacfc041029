// Classifies images by the component form.
//
//     classify_component MODEL IMAGES [ROWS]
//
// MODEL is a name that the host has registered or, with a slash in it, a file to load from bytes.

#include <string.h>

#include "component.h"
#include "digits.h"
#include "files.h"

// The host's results are put where this says; the caller frees them.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)old_size, (void)align;
    void *new = realloc(old, size);
    if (new == NULL && size > 0) {
        abort();
    }
    return new;
}

static void fail(const char *call, int32_t error) {
    struct list text;
    error_data(error, &text);
    fprintf(stderr, "%s: error %u: %.*s\n", call, (unsigned)error_code(error), (int)text.length, (char *)text.items);
    exit(1);
}

static int32_t check(struct handle_result result, const char *call) {
    if (result.failed) {
        fail(call, result.value);
    }
    return result.value;
}

static int32_t load(const char *model) {
    struct handle_result result;
    if (strchr(model, '/') == NULL) {
        graph_load_by_name(model, strlen(model), &result);
        return check(result, "load-by-name");
    }
    size_t length;
    void *bytes = read_file(model, &length);
    struct list part = {bytes, length};
    graph_load(&part, 1, ONNX, CPU, &result);
    free(bytes);
    return check(result, "load");
}

// Copies the data of the only output, and drops what the call returned.
static void take_probabilities(struct list outputs, float probabilities[CLASSES]) {
    struct named_tensor *output = outputs.items;
    struct list data;
    if (outputs.length != 1) {
        fprintf(stderr, "compute: %u outputs instead of 1\n", (unsigned)outputs.length);
        exit(1);
    }
    tensor_data(output->tensor, &data);
    if (tensor_type_of(output->tensor) != FP32 || data.length != CLASSES * sizeof(float)) {
        fprintf(stderr, "compute: %u bytes instead of %zu\n", (unsigned)data.length, CLASSES * sizeof(float));
        exit(1);
    }
    memcpy(probabilities, data.items, data.length);
    tensor_drop(output->tensor);
    free(data.items);
    free(output->name.items);
    free(outputs.items);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: classify_component MODEL IMAGES [ROWS]\n");
        return 2;
    }
    struct handle_result opened;
    int32_t graph = load(argv[1]);
    graph_init(graph, &opened);
    int32_t context = check(opened, "init-execution-context");
    FILE *images = open_or_exit(argv[2]);
    int rows = argc > 3 ? atoi(argv[3]) : INT32_MAX;
    float image[PIXELS], probabilities[CLASSES];
    for (int row = 0; row < rows && read_image(images, image); row++) {
        struct named_tensor input = {{"image", 5}, tensor_new(IMAGE_DIMS, 4, FP32, image, sizeof image)};
        struct outputs_result result;
        context_compute(context, &input, 1, &result);
        if (result.failed) {
            fail("compute", result.error);
        }
        take_probabilities(result.outputs, probabilities);
        print_class(row, probabilities);
    }
    context_drop(context);
    graph_drop(graph);
    return 0;
}
