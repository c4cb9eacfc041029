/* Prints the digit that the model sees on an image: digits MODEL IMAGES [NUMBER]. */
#include <graphpool.h>
#include <stdio.h>
#include <stdlib.h>

static gp_error error;

static void check(gp_code code) {
    if (code != GP_CODE_OK) {
        fprintf(stderr, "error %u: %s\n", (unsigned)code, error.message);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 3 || gp_abi() != GP_ABI) {
        fprintf(stderr, "usage: digits MODEL IMAGES [NUMBER]\n");
        return 2;
    }
    /* An image of 8 times 8 pixels, a byte for each, from 0 to 16. */
    unsigned char bytes[64];
    FILE *file = fopen(argv[2], "rb");
    long number = argc > 3 ? strtol(argv[3], NULL, 10) : 0;
    if (!file || fseek(file, number * 64, SEEK_SET) || fread(bytes, 1, 64, file) != 64) {
        fprintf(stderr, "no image %ld in %s\n", number, argv[2]);
        return 1;
    }
    fclose(file);
    float pixels[64];
    for (int i = 0; i < 64; i++) {
        pixels[i] = bytes[i] / 16.0f;
    }

    /* Once for the process. */
    gp_engine *engine;
    check(gp_engine_create(NULL, &engine, &error));
    gp_model_options model = {.encoding = GP_ENCODING_ONNX, .target = GP_TARGET_CPU};
    check(gp_register_path(engine, "digits", argv[1], &model, &error));

    /* Once for each wasm instance. */
    gp_guest *guest;
    uint32_t graph, context;
    check(gp_guest_create(engine, NULL, &guest, &error));
    check(gp_load_by_name(guest, "digits", 6, &graph, &error));
    check(gp_init_execution_context(guest, graph, &context, &error));
    const uint32_t sizes[] = {1, 1, 8, 8};
    gp_tensor input = {
        .dimensions = sizes, .rank = 4, .data = pixels, .length = sizeof pixels, .element_type = GP_TYPE_F32};
    check(gp_set_input(guest, context, 0, &input, &error));
    check(gp_compute_within(guest, context, 10000, &error));
    float classes[10];
    size_t length;
    check(gp_get_output(guest, context, 0, classes, sizeof classes, &length, &error));

    int top = 0;
    for (int i = 1; i < 10; i++) {
        top = classes[i] > classes[top] ? i : top;
    }
    printf("%d (%.1f %%)\n", top, 100 * classes[top]);
    check(gp_guest_close(guest, &error));
    check(gp_engine_close(engine, &error));
    return 0;
}
