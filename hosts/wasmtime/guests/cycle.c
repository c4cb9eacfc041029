// Opens and closes what a guest may hold, many times, and tries what it has closed.
//
//     cycle MODEL IMAGES ROUNDS
//
// MODEL is a name that the host has registered. Needs a host with `unload` and `finalize_execution_context`.

#include <string.h>

#include "core.h"
#include "digits.h"
#include "files.h"

static void expect(int32_t code, int32_t expected, const char *call, int round) {
    if (code != expected) {
        fprintf(stderr, "round %d: %s: errno %d instead of %d\n", round, call, (int)code, (int)expected);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: cycle MODEL IMAGES ROUNDS\n");
        return 2;
    }
    float image[PIXELS], first[CLASSES], again[CLASSES];
    FILE *images = open_or_exit(argv[2]);
    if (!read_image(images, image)) {
        fprintf(stderr, "%s: no image\n", argv[2]);
        return 1;
    }
    struct tensor tensor = {IMAGE_DIMS, 4, F32, image, sizeof image};
    int rounds = atoi(argv[3]);
    for (int round = 0; round < rounds; round++) {
        uint32_t graph, context, other, size;
        expect(nn_load_by_name(argv[1], strlen(argv[1]), &graph), SUCCESS, "load_by_name", round);
        expect(nn_init(graph, &context), SUCCESS, "init_execution_context", round);
        expect(nn_init(graph, &other), SUCCESS, "init_execution_context", round);
        expect(nn_unload(graph), SUCCESS, "unload", round);
        // A context outlives its graph's handle.
        expect(nn_set_input(context, 0, &tensor), SUCCESS, "set_input", round);
        expect(nn_compute(context), SUCCESS, "compute", round);
        float *result = round == 0 ? first : again;
        expect(nn_get_output(context, 0, result, sizeof first, &size), SUCCESS, "get_output", round);
        if (round > 0 && memcmp(first, again, sizeof first) != 0) {
            fprintf(stderr, "round %d: another result than the first\n", round);
            return 1;
        }
        expect(nn_finalize(context), SUCCESS, "finalize_execution_context", round);
        expect(nn_finalize(other), SUCCESS, "finalize_execution_context", round);

        expect(nn_unload(graph), INVALID_ARGUMENT, "unload of a stale graph", round);
        expect(nn_init(graph, &context), INVALID_ARGUMENT, "init_execution_context of a stale graph", round);
        expect(nn_compute(other), INVALID_ARGUMENT, "compute of a stale context", round);
        expect(nn_finalize(other), INVALID_ARGUMENT, "finalize_execution_context of a stale context", round);
    }
    printf("%d rounds\n", rounds);
    return 0;
}
