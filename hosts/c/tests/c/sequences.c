/* The sequences of calls of language models through the C interface: sequences FILE.gguf. The sequences are those of
   hosts/wasmtime/guests, whose calls are defined here. */
#include <graphpool.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../wasmtime/guests/core.h"

static gp_guest *guest;
static gp_error error;

static gp_code check(gp_code code) {
    if (code != GP_CODE_OK) {
        fprintf(stderr, "error %u: %s\n", (unsigned)code, error.message);
        exit(1);
    }
    return code;
}

static gp_tensor tensor_of(const struct tensor *tensor) {
    return (gp_tensor){.dimensions = tensor->dims,
                       .rank = tensor->rank,
                       .data = tensor->data,
                       .length = tensor->length,
                       .element_type = tensor->type};
}

int32_t nn_load_by_name(const char *name, uint32_t length, uint32_t *graph) {
    return gp_load_by_name(guest, name, length, graph, &error);
}

int32_t nn_load_by_name_with_config(const char *name, uint32_t length, const char *config, uint32_t config_length,
                                    uint32_t *graph) {
    return gp_load_by_name_with_config(guest, name, length, config, config_length, graph, &error);
}

int32_t nn_init(uint32_t graph, uint32_t *context) {
    return gp_init_execution_context(guest, graph, context, &error);
}

int32_t nn_set_input(uint32_t context, uint32_t index, const struct tensor *tensor) {
    gp_tensor input = tensor_of(tensor);
    return gp_set_input(guest, context, index, &input, &error);
}

int32_t nn_compute(uint32_t context) {
    return gp_compute(guest, context, &error);
}

int32_t nn_get_output(uint32_t context, uint32_t index, void *buffer, uint32_t max, uint32_t *size) {
    size_t length = 0;
    gp_code code = gp_get_output(guest, context, index, buffer, max, &length, &error);
    *size = (uint32_t)length;
    return code;
}

int32_t nn_unload(uint32_t graph) {
    return gp_unload(guest, graph, &error);
}

int32_t nn_finalize(uint32_t context) {
    return gp_drop_context(guest, context, &error);
}

int32_t nn_compute_single(uint32_t context) {
    return gp_compute_single(guest, context, GP_NO_LIMIT, &error);
}

int32_t nn_get_output_single(uint32_t context, uint32_t index, void *buffer, uint32_t max, uint32_t *size) {
    size_t length = 0;
    gp_code code = gp_get_output_single(guest, context, index, buffer, max, &length, &error);
    *size = (uint32_t)length;
    return code;
}

int32_t nn_fini_single(uint32_t context) {
    return gp_fini_single(guest, context, &error);
}

#define main run_sequences
#include "../../../wasmtime/guests/sequences.c"
#undef main

int main(int argc, char **argv) {
    if (argc != 2 || gp_abi() != GP_ABI) {
        fprintf(stderr, "usage: sequences FILE.gguf\n");
        return 2;
    }
    gp_engine *engine;
    check(gp_engine_create(NULL, &engine, &error));
    gp_model_options options = {.encoding = GP_ENCODING_GGML, .target = GP_TARGET_CPU, .guest_configs = 2};
    check(gp_register_path(engine, "model", argv[1], &options, &error));
    gp_guest_options numbers = {.dialect = GP_DIALECT_WASMEDGE};
    check(gp_guest_create(engine, &numbers, &guest, &error));
    char *arguments[] = {argv[0], (char[]){"model"}, NULL};
    int code = run_sequences(2, arguments);
    check(gp_guest_close(guest, &error));
    check(gp_engine_close(engine, &error));
    return code;
}
