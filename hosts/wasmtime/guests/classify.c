// Classifies images by the core-module form.
//
//     classify MODEL IMAGES [ROWS]
//
// MODEL is a name that the host has registered or, with a slash in it, a file to load from bytes.

#include <string.h>

#include "core.h"
#include "digits.h"
#include "files.h"

static void check(int32_t code, const char *call) {
    if (code != SUCCESS) {
        fprintf(stderr, "%s: errno %d\n", call, (int)code);
        exit(1);
    }
}

static uint32_t load(const char *model) {
    uint32_t graph;
    if (strchr(model, '/') == NULL) {
        check(nn_load_by_name(model, strlen(model), &graph), "load_by_name");
        return graph;
    }
    size_t length;
    void *bytes = read_file(model, &length);
    struct builder builder = {bytes, length};
    check(nn_load(&builder, 1, ONNX, CPU, &graph), "load");
    free(bytes);
    return graph;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: classify MODEL IMAGES [ROWS]\n");
        return 2;
    }
    uint32_t graph = load(argv[1]), context;
    check(nn_init(graph, &context), "init_execution_context");
    FILE *images = open_or_exit(argv[2]);
    int rows = argc > 3 ? atoi(argv[3]) : INT32_MAX;
    float image[PIXELS], probabilities[CLASSES];
    for (int row = 0; row < rows && read_image(images, image); row++) {
        struct tensor tensor = {IMAGE_DIMS, 4, F32, image, sizeof image};
        uint32_t size;
        check(nn_set_input(context, 0, &tensor), "set_input");
        check(nn_compute(context), "compute");
        check(nn_get_output(context, 0, probabilities, sizeof probabilities, &size), "get_output");
        if (size != sizeof probabilities) {
            fprintf(stderr, "get_output: %u bytes instead of %zu\n", (unsigned)size, sizeof probabilities);
            return 1;
        }
        print_class(row, probabilities);
    }
    return 0;
}
