// The component form of wasi-nn, by the canonical ABI: the imports that a component's core module has.

#ifndef COMPONENT_H
#define COMPONENT_H

#include <stdint.h>

#define VERSION "@0.2.0-rc-2024-10-28"
#define OF(interface, name) __attribute__((import_module("wasi:nn/" interface VERSION), import_name(name)))

enum encoding { OPENVINO, ONNX, TENSORFLOW, PYTORCH, TENSORFLOWLITE, GGML, AUTODETECT };
enum target { CPU, GPU, TPU };
enum tensor_type { FP16, FP32, FP64, BF16, U8, I32, I64 };

struct list {
    void *items;
    uint32_t length;
};

// `result<R, error>` where R is a resource: `value` is the handle of either.
struct handle_result {
    uint8_t failed;
    int32_t value;
};

struct named_tensor {
    struct list name;
    int32_t tensor;
};

// `result<list<named-tensor>, error>`.
struct outputs_result {
    uint8_t failed;
    union {
        struct list outputs;
        int32_t error;
    };
};

OF("tensor", "[constructor]tensor")
int32_t tensor_new(const uint32_t *dims, uint32_t rank, uint32_t type, const void *data, uint32_t length);
OF("tensor", "[method]tensor.dimensions") void tensor_dimensions(int32_t, struct list *);
OF("tensor", "[method]tensor.ty") uint32_t tensor_type_of(int32_t);
OF("tensor", "[method]tensor.data") void tensor_data(int32_t, struct list *);
OF("tensor", "[resource-drop]tensor") void tensor_drop(int32_t);

OF("errors", "[method]error.code") uint32_t error_code(int32_t);
OF("errors", "[method]error.data") void error_data(int32_t, struct list *);
OF("errors", "[resource-drop]error") void error_drop(int32_t);

OF("graph", "load")
void graph_load(const struct list *parts, uint32_t count, uint32_t encoding, uint32_t target, struct handle_result *);
OF("graph", "load-by-name") void graph_load_by_name(const char *, uint32_t, struct handle_result *);
OF("graph", "[method]graph.init-execution-context") void graph_init(int32_t, struct handle_result *);
OF("graph", "[resource-drop]graph") void graph_drop(int32_t);

OF("inference", "[method]graph-execution-context.compute")
void context_compute(int32_t, const struct named_tensor *, uint32_t, struct outputs_result *);
OF("inference", "[resource-drop]graph-execution-context") void context_drop(int32_t);

#endif
