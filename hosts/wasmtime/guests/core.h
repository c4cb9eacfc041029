// The core-module form of wasi-nn: the functions of the import module `wasi_ephemeral_nn`. A native program defines
// these functions itself.

#ifndef CORE_H
#define CORE_H

#include <stdint.h>

enum errno_of_nn {
    SUCCESS,
    INVALID_ARGUMENT,
    INVALID_ENCODING,
    MISSING_MEMORY,
    BUSY,
    RUNTIME_ERROR,
    UNSUPPORTED_OPERATION,
    TOO_LARGE,
    NOT_FOUND,
    // WasmEdge's and WAMR's, of language models.
    END_OF_SEQUENCE = 100,
    CONTEXT_FULL,
    PROMPT_TOO_LONG,
    MODEL_NOT_FOUND,
};

enum encoding { OPENVINO, ONNX, TENSORFLOW };
enum target { CPU, GPU, TPU };
enum tensor_type { F16, F32, F64, U8, I32, I64 };

struct builder {
    const void *bytes;
    uint32_t length;
};

struct tensor {
    const uint32_t *dims;
    uint32_t rank;
    uint8_t type;
    const void *data;
    uint32_t length;
};

#ifdef __wasm__
_Static_assert(sizeof(struct builder) == 8 && sizeof(struct tensor) == 20, "the layouts of the interface");
#define IMPORT(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(#name))) int32_t
#else
#define IMPORT(name) int32_t
#endif

IMPORT(load) nn_load(const struct builder *, uint32_t, uint32_t encoding, uint32_t target, uint32_t *graph);
IMPORT(load_by_name) nn_load_by_name(const char *, uint32_t, uint32_t *graph);
IMPORT(init_execution_context) nn_init(uint32_t graph, uint32_t *context);
IMPORT(set_input) nn_set_input(uint32_t context, uint32_t index, const struct tensor *);
IMPORT(compute) nn_compute(uint32_t context);
IMPORT(get_output) nn_get_output(uint32_t context, uint32_t index, void *buffer, uint32_t max, uint32_t *size);

// Not of the specification: a host without them refuses a module that uses them.
IMPORT(unload) nn_unload(uint32_t graph);
IMPORT(finalize_execution_context) nn_finalize(uint32_t context);
IMPORT(load_by_name_with_config)
nn_load_by_name_with_config(const char *, uint32_t, const char *config, uint32_t config_length, uint32_t *graph);
IMPORT(compute_single) nn_compute_single(uint32_t context);
IMPORT(get_output_single)
nn_get_output_single(uint32_t context, uint32_t index, void *buffer, uint32_t max, uint32_t *size);
IMPORT(fini_single) nn_fini_single(uint32_t context);

#endif
