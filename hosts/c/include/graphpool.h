/*
 * graphpool: wasi-nn graphs and contexts for the guests of a process.
 *
 * Made from hosts/c/src by cbindgen; UPDATE_HEADER=1 cargo test -p graphpool-c --test header writes it.
 *
 * Rules for all functions:
 *
 * - A function returns GP_CODE_OK or the code of its error, and then fills `error`, which may be null. What it writes
 *   through other pointers it writes if it succeeds, unless its comment says otherwise.
 * - A pointer is null, or valid for what its function reads or writes there. Null where none is allowed, a wrong
 *   alignment, a length past the address space, and memory that is written and overlaps another argument give
 *   GP_CODE_INVALID_ARGUMENT.
 * - `gp_engine *` and `gp_guest *` are looked up and never dereferenced. Any value is safe: one that was closed, of
 *   another kind or made up gives GP_CODE_CLOSED. So do the 64-bit numbers of jobs, reservations and watches. The
 *   32-bit numbers of graphs and contexts are valid in their own guest only; any other gives GP_CODE_INVALID_ARGUMENT.
 * - Every argument is copied before it is checked, and used no more after the call. Another thread, of a guest for
 *   instance, may write a tensor's, a model's or an output's bytes during a call: then the call sees a mix of them.
 * - Nothing unwinds into C. A defect of the library gives GP_CODE_PANIC.
 * - A text is UTF-8, except for paths, which are bytes where the system has them so.
 */

#ifndef GRAPHPOOL_H
#define GRAPHPOOL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define GP_VERSION "0.1.0"

// The length of an output that a model lacks: one that gp_outputs describes as optional.
#define GP_NO_OUTPUT SIZE_MAX

// The bytes of `gp_error.message`, the final zero included.
#define GP_MESSAGE_BYTES 512

// What stands for no bound, in limits and times.
#define GP_NO_LIMIT UINT64_MAX

// What stands for a number that a dialect does not have.
#define GP_NO_NUMBER UINT32_MAX

// The bytes of `gp_resolved.path`, the final zero included.
#define GP_PATH_BYTES 4096

// The number of the interface that this header describes. It changes whenever a program must be compiled again.
#define GP_ABI 0

// The result of a call. 1 to 8 are wasi-nn's own numbers, which a runtime gives to its guest; 9 to 11 it gives as
// GP_CODE_RUNTIME_ERROR in the core-module form, and by their own names in the component form. 100 to 103 are those of
// WasmEdge and WAMR; for a guest of the specification's form 100 is GP_CODE_RUNTIME_ERROR, 101 and 102 are
// GP_CODE_TOO_LARGE, and 103 is GP_CODE_NOT_FOUND.
enum gp_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The call has succeeded.
  GP_CODE_OK = 0,
  // A handle, an index, a shape, a number or a pointer is not valid.
  GP_CODE_INVALID_ARGUMENT = 1,
  // The bytes are not a model of the stated encoding.
  GP_CODE_INVALID_ENCODING = 2,
  // A guest pointer lies outside the guest's memory. For hosts: the library does not return it.
  GP_CODE_MISSING_MEMORY = 3,
  // The context is in use, or a queue is full; the same call may succeed later.
  GP_CODE_BUSY = 4,
  // The backend failed, or the call was cancelled.
  GP_CODE_RUNTIME_ERROR = 5,
  // No backend supports the request.
  GP_CODE_UNSUPPORTED_OPERATION = 6,
  // The request exceeds a limit, or a buffer is too short.
  GP_CODE_TOO_LARGE = 7,
  // No model has the name.
  GP_CODE_NOT_FOUND = 8,
  // The time was over.
  GP_CODE_TIMEOUT = 9,
  // The guest lacks the permission.
  GP_CODE_SECURITY = 10,
  // Any other error of the engine.
  GP_CODE_UNKNOWN = 11,
  // The engine, guest or job was closed, or was never there.
  GP_CODE_CLOSED = 12,
  // The library has a defect: it panicked, and the call had no result.
  GP_CODE_PANIC = 13,
  // The job is not done. Its call goes on.
  GP_CODE_NOT_DONE = 14,
  // gp_compute_single: the sequence is complete.
  GP_CODE_END_OF_SEQUENCE = 100,
  // The context of a language model has no room for more. What was made until then can be read.
  GP_CODE_CONTEXT_FULL = 101,
  // The prompt does not fit into the context of the language model.
  GP_CODE_PROMPT_TOO_LONG = 102,
  // The backend has found no model where it was told to look for one.
  GP_CODE_MODEL_NOT_FOUND = 103,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum gp_code gp_code;
#else
typedef uint32_t gp_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The numbers that a guest's calls use for encodings, targets and element types.
enum gp_dialect
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The enums of this header, which are those of wasi-nn's component form (WIT).
  GP_DIALECT_COMPONENT = 0,
  // The specification's core-module form (witx), and Wasmtime's.
  GP_DIALECT_WITX = 1,
  // WasmEdge's.
  GP_DIALECT_WASMEDGE = 2,
  // WAMR's, import module `wasi_ephemeral_nn`.
  GP_DIALECT_WAMR = 3,
  // WAMR's older one, import module `wasi_nn`.
  GP_DIALECT_WAMR_LEGACY = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum gp_dialect gp_dialect;
#else
typedef uint32_t gp_dialect;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The encoding of a model.
enum gp_encoding
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // OpenVINO: a description in XML and its weights.
  GP_ENCODING_OPENVINO = 0,
  // ONNX.
  GP_ENCODING_ONNX = 1,
  // TensorFlow.
  GP_ENCODING_TENSORFLOW = 2,
  // PyTorch.
  GP_ENCODING_PYTORCH = 3,
  // TensorFlow Lite.
  GP_ENCODING_TENSORFLOWLITE = 4,
  // GGML and GGUF.
  GP_ENCODING_GGML = 5,
  // Any encoding that a backend recognises by the bytes.
  GP_ENCODING_AUTODETECT = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum gp_encoding gp_encoding;
#else
typedef uint32_t gp_encoding;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The device that a graph runs on.
enum gp_target
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // CPU.
  GP_TARGET_CPU = 0,
  // GPU.
  GP_TARGET_GPU = 1,
  // TPU.
  GP_TARGET_TPU = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum gp_target gp_target;
#else
typedef uint32_t gp_target;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The type of a tensor's elements, which are little-endian.
enum gp_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // IEEE 754 binary16.
  GP_TYPE_F16 = 0,
  // IEEE 754 binary32: C's float.
  GP_TYPE_F32 = 1,
  // IEEE 754 binary64: C's double.
  GP_TYPE_F64 = 2,
  // bfloat16.
  GP_TYPE_BF16 = 3,
  // uint8_t.
  GP_TYPE_U8 = 4,
  // int32_t.
  GP_TYPE_I32 = 5,
  // int64_t.
  GP_TYPE_I64 = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum gp_type gp_type;
#else
typedef uint32_t gp_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// An engine: the models and backends of a process. A pointer to it is a name, and points nowhere.
typedef struct gp_engine gp_engine;

// A guest: one wasm instance's view of an engine. A pointer to it is a name, and points nowhere.
typedef struct gp_guest gp_guest;

// What a host declares of a library, because its interface does not tell it. All zero but the encodings are the
// defaults.
typedef struct {
  // The encodings that the library loads, numbers of gp_encoding.
  const uint32_t *encodings;
  // How many they are; at least 1.
  size_t encoding_count;
  // The targets that the library has, numbers of gp_target; null for the CPU.
  const uint32_t *targets;
  // How many they are.
  size_t target_count;
  // The backend's name, ended by a zero; null for the file's name without `lib` and its extension.
  const char *name;
  // 1 if the library is not thread-safe: then it gets one call at a time. 0 if only calls in one context that its
  // init_backend has made exclude each other, as in WAMR.
  uint32_t one_call_at_a_time;
  // 1 to map the file itself, which must then not be overwritten while it is in use; 0 to map a copy.
  uint32_t in_place;
  // 1 for a library without deinit_backend, which never frees its memory.
  uint32_t without_deinit;
  // 1 to keep the library mapped for ever: for one whose threads or destructors run on after its last
  // deinit_backend.
  uint32_t keep_mapped;
  // 0.
  uint32_t reserved;
  // How many contexts are opened from one load of a model; 0 for 1. More save memory and time for large models, and
  // keep the memory of closed contexts longer.
  uint32_t contexts_per_load;
  // How long a call waits for calls that exclude it, in milliseconds; 0 for 10,000.
  uint64_t max_wait_ms;
  // The bytes up to which an output is read; 0 for 64 MiB.
  uint64_t max_output_bytes;
  // The most inputs of a model; 0 for 16.
  uint32_t max_inputs;
  // The most outputs of a model, which are read as bytes; 0 for 16.
  uint32_t max_outputs;
} gp_plugin_options;

// What a failed call says. A call writes it if it fails, and only then; it need not be initialised before.
typedef struct {
  // The same code as the call returns.
  gp_code code;
  // The bytes that a buffer needs, if it was too short; otherwise 0.
  size_t needed;
  // What was wrong and what the bound is: UTF-8, ended by a zero.
  char message[GP_MESSAGE_BYTES];
} gp_error;

// Called with the name of each backend; `data` is the caller's. The name ends with a zero and is valid until it
// returns. It may call the library, and must return.
typedef void (*gp_backend_visitor)(void *data, const char *name);

// The limits of all guests of an engine together. What would fit if others held less gives GP_CODE_BUSY, what is past
// a bound by itself GP_CODE_TOO_LARGE.
typedef struct {
  // Models in memory.
  uint64_t max_graphs;
  // Contexts in memory.
  uint64_t max_contexts;
  // Bytes of the models in memory.
  uint64_t max_graph_bytes;
  // Bytes that the contexts hold between calls.
  uint64_t max_context_bytes;
  // Computes that run at one time; at least 1.
  uint64_t max_computing;
  // Computes that sleep at one time beside those that run, until others have worked for them, as those of a language
  // model do. Each keeps a thread.
  uint64_t max_suspended;
  // Computes that wait at one time.
  uint64_t max_queued;
  // Names that a resolver has given.
  uint64_t max_resolved_names;
  // Started loads that work at one time; at least 1.
  uint64_t max_loading;
  // Started loads that wait at one time.
  uint64_t max_queued_loads;
} gp_engine_limits;

// The limits of one guest: gp_engine_options_default has the defaults, and zero is the bound 0. Each bound is
// inclusive; GP_NO_LIMIT is none. A call past one gives GP_CODE_TOO_LARGE, past max_computes and max_loads
// GP_CODE_BUSY, past max_compute_ms GP_CODE_TIMEOUT.
typedef struct {
  // Graph handles at one time.
  uint64_t max_graphs;
  // Contexts at one time.
  uint64_t max_contexts;
  // Bytes of the models that the guest has loaded from bytes.
  uint64_t max_graph_bytes;
  // Bytes of one input tensor.
  uint64_t max_tensor_bytes;
  // Dimensions of one input tensor.
  uint64_t max_tensor_rank;
  // Bytes of the tensors of one compute.
  uint64_t max_compute_bytes;
  // Computes at one time, running and waiting.
  uint64_t max_computes;
  // Loads at one time that gp_load_start and gp_load_by_name_start have started.
  uint64_t max_loads;
  // Bytes that the contexts hold between calls.
  uint64_t max_context_bytes;
  // Bytes of a model's name.
  uint64_t max_name_bytes;
  // Bytes of a guest's configuration of a model.
  uint64_t max_config_bytes;
  // The longest time of a compute, its wait included, in milliseconds.
  uint64_t max_compute_ms;
} gp_limits;

// The answer of a resolver, which fills it. It is all zero before.
typedef struct {
  // The model's file, or a directory with one model, ended by a zero.
  char path[GP_PATH_BYTES];
  // Its gp_encoding.
  uint32_t encoding;
  // Its gp_target.
  uint32_t target;
} gp_resolved;

// Asked for a model that a guest loads by a name that is not registered. `data` is the caller's. Returns GP_CODE_OK
// with the model, which is then registered under the name; GP_CODE_NOT_FOUND if there is none; or the code that the
// guest is to get.
//
// The name ends with a zero and may come from a guest: it may have `..` and `/` in it. Called on the thread of the
// load, for different names at the same time. It must return. It may call the library, but a load of the name that it
// is asked for, and any that gp_load_start or gp_load_by_name_start begins, gives an error.
typedef gp_code (*gp_resolver)(void *data, const char *name, gp_resolved *model);

// Called with the data that the library needs no more.
typedef void (*gp_free)(void *data);

// The settings of an engine. gp_engine_options_default fills them.
typedef struct {
  // Over all guests.
  gp_engine_limits engine;
  // Of a guest that is created without limits of its own.
  gp_limits guest;
  // The upper bound of every guest's limits.
  gp_limits ceiling;
  // The most threads of one compute: 1 for the highest throughput of many guests, more for few guests with large
  // models.
  uint32_t threads;
  // 0.
  uint32_t reserved;
  // gp_compute_start, gp_compute_single_start and gp_infer_start run a compute inside of the call, if nothing waits
  // and the last ones of its graph took at most this long, in microseconds. 0 for never.
  uint64_t inline_compute_us;
  // Asked for names that are not registered; may be null.
  gp_resolver resolve;
  // What resolve gets. It must live until resolve_free is called.
  void *resolve_data;
  // Called with resolve_data, once, when the engine asks no more: that may be after gp_engine_close has returned, on
  // any thread. May be null.
  gp_free resolve_free;
} gp_engine_options;

// The settings of a guest. All zero are the defaults.
typedef struct {
  // The guest's limits, below the engine's ceiling; null for the engine's.
  const gp_limits *limits;
  // The names that the guest may load, each ended by a zero; null for all.
  const char *const *models;
  // The engine's name for each of models, if it is another; null for the same names.
  const char *const *engine_models;
  // How many they are. 0 with models that are not null: none.
  size_t model_count;
  // The guest's label in events, ended by a zero; may be null.
  const char *label;
  // The numbers in the guest's calls, a gp_dialect.
  gp_dialect dialect;
  // 0.
  uint32_t reserved;
} gp_guest_options;

// Some bytes. data may be null if there are none.
typedef struct {
  // The first.
  const void *data;
  // How many.
  size_t length;
} gp_bytes;

// An input tensor.
typedef struct {
  // The sizes, outermost first; may be null for a scalar.
  const uint32_t *dimensions;
  // How many they are.
  size_t rank;
  // The elements, row-major and little-endian, of any alignment.
  const void *data;
  // The length of data in bytes.
  size_t length;
  // The type of the elements, a number of the guest's dialect.
  uint32_t element_type;
  // 0.
  uint32_t reserved;
} gp_tensor;

// An input tensor and its index.
typedef struct {
  // The tensor.
  gp_tensor tensor;
  // The input's index.
  uint32_t index;
  // 0.
  uint32_t reserved;
} gp_input;

// The statistics of an engine. Each number was right at some moment of the call.
typedef struct {
  // Models in memory, from their load until their backend's destructor has run. A model that several guests share
  // counts once.
  uint64_t graphs;
  // Bytes of these models, as their backends count them.
  uint64_t graph_bytes;
  // Graph handles that guests hold.
  uint64_t graph_handles;
  // Bytes of the contexts in memory, as their backends count them, and at least those of their inputs.
  uint64_t context_bytes;
  // Bytes that hosts keep for guests, by gp_reserve. They are not in
  // `context_bytes`, and count against the same limits.
  uint64_t host_bytes;
  // Contexts in memory, from their opening until their backend's destructor has run.
  uint64_t contexts;
  // Live guests.
  uint64_t guests;
  // Asynchronous loads that run or wait now.
  uint64_t loads;
  // Registered names.
  uint64_t names;
  // Entries removed from the pools whose grace period is not over.
  uint64_t awaiting_reclamation;
  // Models that a backend has built since the engine was made.
  uint64_t builds;
  // Versions of named models that a reload has made.
  uint64_t reloads;
  // Contexts opened since the engine was made.
  uint64_t contexts_opened;
  // Computes that have succeeded.
  uint64_t computes;
  // Computes that their backend refused or ended with an error.
  uint64_t failed_computes;
  // Calls that were refused because another call used the same context.
  uint64_t busy_contexts;
  // Calls of guests that ended with an error, those of bad pointers included.
  uint64_t errors;
  // Those of them that were refused by a limit of the guest, the engine or the host, or by the queue of computes.
  uint64_t limited;
  // Computes that exceeded their time, whether they had begun or not.
  uint64_t timeouts;
  // Computes that were cancelled and ended with an error.
  uint64_t cancelled;
  // Computes that run now.
  uint64_t computing;
  // Computes that sleep now until others have worked for them, or wait to go on after that.
  uint64_t suspended;
  // Computes that wait for their turn now.
  uint64_t queued;
  // Panics of backends, including those of their destructors.
  uint64_t panics;
} gp_stats;

// What a guest holds, and what its computes have cost.
typedef struct {
  // The guest's number, unique in the process: the field `guest` of events.
  uint64_t id;
  // Graph handles, as gp_limits.max_graphs counts them.
  uint64_t graphs;
  // Contexts, as gp_limits.max_contexts counts them.
  uint64_t contexts;
  // Bytes of models, as gp_limits.max_graph_bytes counts them.
  uint64_t graph_bytes;
  // Bytes of contexts, as gp_limits.max_context_bytes counts them.
  uint64_t context_bytes;
  // Computes that have ended, failed ones included.
  uint64_t computes;
  // The time that they took, without their wait for a turn, in nanoseconds: the sum over all threads.
  uint64_t compute_ns;
} gp_usage;

// A named model.
typedef struct {
  // Its name, ended by a zero.
  const char *name;
  // The number of the current version, from 1; 0 before the first build.
  uint64_t version;
  // The number of the current version's graph, as gp_graph.id; 0 before the first build.
  uint64_t graph;
  // How many graphs guests have loaded with configurations of their own.
  size_t configured;
  // Its gp_encoding.
  uint32_t encoding;
  // Its gp_target.
  uint32_t target;
} gp_model;

// Called with each model; `data` is the caller's. What `model` points to is valid until it returns. It may call the
// library, and must return.
typedef void (*gp_model_visitor)(void *data, const gp_model *model);

// A graph in memory.
typedef struct {
  // A number that is unique in the process.
  uint64_t id;
  // BLAKE3 of what determines the graph, in hexadecimal, ended by a zero.
  const char *digest;
  // The name of its backend, ended by a zero.
  const char *backend;
  // The bytes that it holds.
  size_t bytes;
  // The number of its open contexts.
  size_t contexts;
  // Its gp_encoding.
  uint32_t encoding;
  // Its gp_target.
  uint32_t target;
} gp_graph;

// As gp_model_visitor, with each graph.
typedef void (*gp_graph_visitor)(void *data, const gp_graph *graph);

// An input or output of a graph.
typedef struct {
  // Its name in the model, ended by a zero.
  const char *name;
  // The sizes, outermost first, -1 for one that may vary; null if the rank may vary, too.
  const int64_t *dimensions;
  // How many they are.
  size_t rank;
  // Its index.
  uint32_t index;
  // The type of the elements, a number of the guest's dialect; GP_NO_NUMBER if that has none for it, or if the
  // backend does not know the type.
  uint32_t element_type;
  // 1 if the model may lack it, as far as the backend knows.
  uint32_t optional;
  // 0.
  uint32_t reserved;
} gp_description;

// As gp_model_visitor, with each input or output.
typedef void (*gp_description_visitor)(void *data, const gp_description *description);

// The settings of a named model. All zero but the encoding are the defaults.
typedef struct {
  // A gp_encoding.
  uint32_t encoding;
  // A gp_target.
  uint32_t target;
  // The configuration that the backend gets, ended by a zero; may be null.
  const char *config;
  // How many graphs guests may load with configurations of their own.
  size_t guest_configs;
  // 1 to build the model before the call returns, 0 to build it when a guest first loads it.
  uint32_t build_now;
  // 0.
  uint32_t reserved;
} gp_model_options;

// Called when a job is done: exactly once for each start that has succeeded, also if the job is closed before. `data`
// is the caller's, and must live until then.
//
// It is called on any thread that is inside a call of the library, or on one of the library's own. So it must not take
// a lock that the host holds over a call, must return soon, and must not wait. It may call gp_job_graph,
// gp_job_output and gp_job_close for its job; a host makes other calls from elsewhere.
typedef void (*gp_done)(void *data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Opens the library at `path`, which ends with a zero, and adds it as a backend after those that the engine has. The
// host answers for the library: its functions init_backend, deinit_backend, load, load_by_name,
// load_by_name_with_config, init_execution_context, set_input, compute and get_output must have the types of WAMR
// 2.4's wasi-nn backends. The two by name may be missing. What else it must keep to is in graphpool-dylib's
// documentation. It stays mapped until no backend, graph or context uses it.
//
// Threads: any, at any time.
gp_code gp_register_plugin(gp_engine *engine, const char *path, const gp_plugin_options *options, gp_error *error);

// As gp_register_plugin, in the place of the backend of the same name. Graphs in memory stay on the one before, with
// their contexts; gp_reload moves a named model.
//
// Threads: any, at any time.
gp_code gp_replace_plugin(gp_engine *engine, const char *path, const gp_plugin_options *options, gp_error *error);

// Removes a backend by its name, which ends with a zero. Graphs in memory stay usable, with their contexts.
//
// Threads: any, at any time. Of several calls with one name, one succeeds.
gp_code gp_remove_backend(gp_engine *engine, const char *name, gp_error *error);

// Calls `visit` with the name of each backend, in the order in which a load tries them.
//
// Threads: as gp_list_models.
gp_code gp_list_backends(gp_engine *engine, gp_backend_visitor visit, void *data, gp_error *error);

// Fills `options` with the defaults.
//
// Threads: any, at any time.
gp_code gp_engine_options_default(gp_engine_options *options, gp_error *error);

// Creates an engine that loads ONNX models for the CPU. `options` may be null, for the defaults.
//
// Threads: any, at any time.
gp_code gp_engine_create(const gp_engine_options *options, gp_engine **engine, gp_error *error);

// Closes an engine. Its guests go on until they are closed, and no new ones are created. With the last of them all
// models are released: that close waits for it, unless a call or a job is inside, at whose end they are.
//
// Threads: any, at any time. Of several calls with one engine, one succeeds.
gp_code gp_engine_close(gp_engine *engine, gp_error *error);

// Creates a guest. `options` may be null, for the defaults.
//
// Threads: any, at any time.
gp_code gp_guest_create(gp_engine *engine, const gp_guest_options *options, gp_guest **guest, gp_error *error);

// Closes a guest: cancels its computes, and releases its graphs and contexts. Calls that are inside end soon, with
// what they have done or an error; the close does not wait for them.
//
// Threads: any, at any time. Of several calls with one guest, one succeeds.
gp_code gp_guest_close(gp_guest *guest, gp_error *error);

// Loads a model from its bytes, in as many parts as its encoding has, which may be hostile. `encoding` and `target`
// are numbers of the guest's dialect.
//
// Threads: any, at any time.
gp_code gp_load(gp_guest *guest,
                const gp_bytes *parts,
                size_t part_count,
                uint32_t encoding,
                uint32_t target,
                uint32_t *graph,
                gp_error *error);

// Loads a model that the host has registered, by its name of `name_length` bytes. Builds it if it has no version yet.
//
// Threads: any, at any time.
gp_code gp_load_by_name(gp_guest *guest, const char *name, size_t name_length, uint32_t *graph, gp_error *error);

// As gp_load_by_name, with the guest's own configuration, if the host allows that for the name.
//
// Threads: any, at any time.
gp_code gp_load_by_name_with_config(gp_guest *guest,
                                    const char *name,
                                    size_t name_length,
                                    const char *config,
                                    size_t config_length,
                                    uint32_t *graph,
                                    gp_error *error);

// Releases a graph. Its contexts stay usable.
//
// Threads: any, at any time.
gp_code gp_unload(gp_guest *guest, uint32_t graph, gp_error *error);

// Opens a context of a graph. It keeps the model alive.
//
// Threads: any, at any time.
gp_code gp_init_execution_context(gp_guest *guest, uint32_t graph, uint32_t *context, gp_error *error);

// Closes a context. A compute of it that waits for its turn is cancelled; a call that is inside completes.
//
// Threads: any, at any time.
gp_code gp_drop_context(gp_guest *guest, uint32_t context, gp_error *error);

// Cancels every compute of a guest. `cancelled`, which may be null, gets how many there were.
//
// Threads: any, at any time.
gp_code gp_cancel_all(gp_guest *guest, size_t *cancelled, gp_error *error);

// Reads a guest's limits.
//
// Threads: any, at any time.
gp_code gp_guest_limits(gp_guest *guest, gp_limits *limits, gp_error *error);

// Tells whether the engine has a backend for models of this encoding on this target, numbers of the guest's dialect:
// `supported` gets 1 or 0. For a host that chooses another target where there is none; a load may still be refused.
//
// Threads: any, at any time.
gp_code gp_supports(gp_guest *guest, uint32_t encoding, uint32_t target, uint32_t *supported, gp_error *error);

// Reserves bytes that the host keeps for a guest between its calls, such as tensors of its own: they count as bytes of
// the guest's contexts. A host reserves before it allocates. `reservation` gets the number that
// gp_reservation_resize and gp_reservation_close take.
//
// Threads: any, at any time.
gp_code gp_reserve(gp_guest *guest, size_t bytes, uint64_t *reservation, gp_error *error);

// Changes the bytes of a reservation. If the call fails, they stay as they were.
//
// Threads: any, at any time.
gp_code gp_reservation_resize(uint64_t reservation, size_t bytes, gp_error *error);

// Gives the bytes of a reservation back. Every reservation is closed by its host, also after its guest.
//
// Threads: any, at any time. Of several calls with one reservation, one succeeds.
gp_code gp_reservation_close(uint64_t reservation, gp_error *error);

// Counts a refusal of the host's own among the guest's errors, as events, gp_stats.errors and, for
// GP_CODE_TOO_LARGE, gp_stats.limited have them: a pointer outside of the guest's memory, for instance. `code` is one
// of 1 to 11, `message` ends with a zero.
//
// Threads: any, at any time.
gp_code gp_refuse(gp_guest *guest, uint32_t code, const char *message, gp_error *error);

// Copies a tensor as the input `index` of a context. A string of bytes, such as a language model's prompt, may have
// the dimensions {1} and any length. A run of gp_compute_single ends.
//
// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
gp_code gp_set_input(gp_guest *guest, uint32_t context, uint32_t index, const gp_tensor *tensor, gp_error *error);

// As gp_set_input, for the input of that name.
//
// Threads: as gp_set_input.
gp_code gp_set_input_by_name(gp_guest *guest,
                             uint32_t context,
                             const char *name,
                             size_t name_length,
                             const gp_tensor *tensor,
                             gp_error *error);

// Unsets every input of a context, and frees their memory.
//
// Threads: as gp_set_input.
gp_code gp_clear_inputs(gp_guest *guest, uint32_t context, gp_error *error);

// Computes every output of a context from its inputs, which stay. Returns when it is done. Waits for its turn first,
// if the engine runs its maximum of computes.
//
// Threads: any, at any time. GP_CODE_BUSY while another call uses the context. gp_cancel, gp_drop_context and
// gp_guest_close on other threads end it.
gp_code gp_compute(gp_guest *guest, uint32_t context, gp_error *error);

// As gp_compute, with at most `time_ms` milliseconds for the wait and the compute together. The guest's own limit
// still applies.
//
// Threads: as gp_compute.
gp_code gp_compute_within(gp_guest *guest, uint32_t context, uint64_t time_ms, gp_error *error);

// Cancels the compute of a context. It ends with GP_CODE_RUNTIME_ERROR, soon. `cancelled`, which may be null, gets 1,
// or 0 if there was no compute.
//
// Threads: any, at any time; meant for another one than the compute's.
gp_code gp_cancel(gp_guest *guest, uint32_t context, uint32_t *cancelled, gp_error *error);

// Copies the output `index` of the last compute to `buffer`, which may have any alignment, and its length in bytes to
// `length`. If the buffer is too short: GP_CODE_TOO_LARGE, nothing in `buffer`, and the length that is needed.
//
// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
gp_code gp_get_output(gp_guest *guest,
                      uint32_t context,
                      uint32_t index,
                      void *buffer,
                      size_t capacity,
                      size_t *length,
                      gp_error *error);

// As gp_get_output, for the output of that name.
//
// Threads: as gp_get_output.
gp_code gp_get_output_by_name(gp_guest *guest,
                              uint32_t context,
                              const char *name,
                              size_t name_length,
                              void *buffer,
                              size_t capacity,
                              size_t *length,
                              gp_error *error);

// Sets exactly these inputs, computes, and gives every output, as one call: no other call on the context comes in
// between. gp_get_output does not find the outputs afterwards.
//
// `buffers`, `capacities` and `lengths` have `output_count` elements each, one for each output of the graph. `lengths`
// gets the lengths of all outputs, and GP_NO_OUTPUT for one that the model lacks. If one is longer than its buffer,
// the call gives GP_CODE_TOO_LARGE and the outputs that fit, and that one is lost.
//
// Threads: as gp_compute.
gp_code gp_infer(gp_guest *guest,
                 uint32_t context,
                 const gp_input *inputs,
                 size_t input_count,
                 uint64_t time_ms,
                 void *const *buffers,
                 const size_t *capacities,
                 size_t *lengths,
                 size_t output_count,
                 gp_error *error);

// Waits until a job is done, for at most `time_ms` milliseconds (GP_NO_LIMIT: for as long as it takes), and gives the
// result of its call. GP_CODE_NOT_DONE if the job is not done by then: it goes on. A job that another thread closes is
// done when its call has ended.
//
// Threads: any, at any time, several for one job too.
gp_code gp_job_wait(uint64_t job, uint64_t time_ms, gp_error *error);

// Gives the graph of a job of gp_load_start or gp_load_by_name_start. GP_CODE_NOT_DONE while the job is not done, and
// the error of a load that has failed.
//
// Threads: any, at any time.
gp_code gp_job_graph(uint64_t job, uint32_t *graph, gp_error *error);

// Copies the output `index` of a job of gp_infer_start, as gp_get_output does. GP_CODE_NOT_DONE while the job is not
// done, and the error of an inference that has failed.
//
// Threads: any, at any time.
gp_code gp_job_output(uint64_t job, uint32_t index, void *buffer, size_t capacity, size_t *length, gp_error *error);

// Closes a job. Its call is cancelled if it is not done, and `done` is called when it has ended. A graph that
// gp_job_graph has not given is unloaded. Every job is closed by its host.
//
// Threads: any, at any time. Of several calls with one job, one succeeds.
gp_code gp_job_close(uint64_t job, gp_error *error);

// Reads the statistics of an engine.
//
// Threads: any, at any time.
gp_code gp_engine_stats(gp_engine *engine, gp_stats *stats, gp_error *error);

// Reads what a guest holds and has used, as for a bill.
//
// Threads: any, at any time.
gp_code gp_guest_usage(gp_guest *guest, gp_usage *usage, gp_error *error);

// Calls `visit` with each named model, in the order of their names.
//
// Threads: any, at any time. `visit` is called on this thread, before the call returns.
gp_code gp_list_models(gp_engine *engine, gp_model_visitor visit, void *data, gp_error *error);

// Calls `visit` with each graph in memory that is in use, in no order.
//
// Threads: as gp_list_models.
gp_code gp_list_graphs(gp_engine *engine, gp_graph_visitor visit, void *data, gp_error *error);

// Calls `visit` with each input of a graph, or of a context's graph, in the order of their indexes.
//
// Threads: as gp_list_models.
gp_code gp_inputs(gp_guest *guest,
                  uint32_t graph_or_context,
                  gp_description_visitor visit,
                  void *data,
                  gp_error *error);

// Calls `visit` with each output of a graph, or of a context's graph, in the order of their indexes.
//
// Threads: as gp_list_models.
gp_code gp_outputs(gp_guest *guest,
                   uint32_t graph_or_context,
                   gp_description_visitor visit,
                   void *data,
                   gp_error *error);

// Registers the model at `path`, a file or a directory with one model, under `name`. Both end with a zero. The files
// are read when the model is built.
//
// Threads: any, at any time.
gp_code gp_register_path(gp_engine *engine,
                         const char *name,
                         const char *path,
                         const gp_model_options *options,
                         gp_error *error);

// Registers a model of `part_count` parts in memory, which are copied.
//
// Threads: any, at any time.
gp_code gp_register_bytes(gp_engine *engine,
                          const char *name,
                          const gp_bytes *parts,
                          size_t part_count,
                          const gp_model_options *options,
                          gp_error *error);

// Registers a model that a backend finds by a name of its own, `of_backend`: what such a name means is the backend's
// to say, and may be a path. Both names end with a zero. For plug-ins that load by name.
//
// Threads: any, at any time.
gp_code gp_register_of_backend(gp_engine *engine,
                               const char *name,
                               const char *of_backend,
                               const gp_model_options *options,
                               gp_error *error);

// Registers every model file of a directory by its name without the extension, for `target`, a gp_target. `count`,
// which may be null, gets their number.
//
// Threads: any, at any time.
gp_code gp_register_directory(gp_engine *engine, const char *path, uint32_t target, size_t *count, gp_error *error);

// Builds a model again from its files. Contexts that are opened from now on run on the result; open ones keep the
// version before. `version`, which may be null, gets the number of the current version.
//
// Threads: any, at any time. Calls for one name wait for each other.
gp_code gp_reload(gp_engine *engine, const char *name, uint64_t *version, gp_error *error);

// As gp_reload, from another file or directory.
//
// Threads: as gp_reload.
gp_code gp_replace_path(gp_engine *engine, const char *name, const char *path, uint64_t *version, gp_error *error);

// As gp_reload, from bytes, which are copied.
//
// Threads: as gp_reload.
gp_code gp_replace_bytes(gp_engine *engine,
                         const char *name,
                         const gp_bytes *parts,
                         size_t part_count,
                         uint64_t *version,
                         gp_error *error);

// Removes a name. Guests that have loaded it keep it.
//
// Threads: any, at any time. Of several calls with one name, one succeeds.
gp_code gp_remove(gp_engine *engine, const char *name, gp_error *error);

// Makes the next piece of the outputs of a context, which gp_get_output_single gives, and returns when it is made. The
// first call begins a run of steps from the inputs, which stay. GP_CODE_END_OF_SEQUENCE, GP_CODE_CONTEXT_FULL and
// GP_CODE_PROMPT_TOO_LONG end the run, and make no piece; the next call begins another. After any other code a run
// that was begun goes on with the next call. While a run is open, gp_compute and gp_infer give
// GP_CODE_INVALID_ARGUMENT. `time_ms` is as for gp_compute_within, for this step.
//
// Threads: as gp_compute.
gp_code gp_compute_single(gp_guest *guest, uint32_t context, uint64_t time_ms, gp_error *error);

// Copies what the last step has added to the output `index` to `buffer`, as gp_get_output does. It may be no bytes,
// and part of a character.
//
// Threads: as gp_get_output.
gp_code gp_get_output_single(gp_guest *guest,
                             uint32_t context,
                             uint32_t index,
                             void *buffer,
                             size_t capacity,
                             size_t *length,
                             gp_error *error);

// Ends the run of steps of a context, and frees what it holds. Succeeds if there is no run.
//
// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
gp_code gp_fini_single(gp_guest *guest, uint32_t context, gp_error *error);

// Starts a compute of a context on a thread of the engine, and returns at once. `time_ms` is as for gp_compute_within.
// `done`, which may be null, is called with `data` when it is done, maybe before the call returns. If the call fails,
// it is not called. `job` gets the number that gp_job_wait and gp_job_close take, before `done` is called; if the call
// fails, the number is of no job.
//
// Threads: any, at any time. The context is in use until the job is done.
gp_code gp_compute_start(gp_guest *guest,
                         uint32_t context,
                         uint64_t time_ms,
                         gp_done done,
                         void *data,
                         uint64_t *job,
                         gp_error *error);

// As gp_compute_single, in the background as gp_compute_start. gp_job_wait gives the code of the step.
//
// Threads: as gp_compute_start.
gp_code gp_compute_single_start(gp_guest *guest,
                                uint32_t context,
                                uint64_t time_ms,
                                gp_done done,
                                void *data,
                                uint64_t *job,
                                gp_error *error);

// As gp_infer, in the background as gp_compute_start. The inputs are set before the call returns, which may wait for a
// plug-in. gp_job_output gives the outputs, which the job keeps until it is closed; they count as bytes of the guest's
// contexts.
//
// Threads: as gp_compute_start.
gp_code gp_infer_start(gp_guest *guest,
                       uint32_t context,
                       const gp_input *inputs,
                       size_t input_count,
                       uint64_t time_ms,
                       gp_done done,
                       void *data,
                       uint64_t *job,
                       gp_error *error);

// As gp_load, in the background as gp_compute_start. The bytes are copied before the call returns. gp_job_graph gives
// the graph.
//
// Threads: any, at any time.
gp_code gp_load_start(gp_guest *guest,
                      const gp_bytes *parts,
                      size_t part_count,
                      uint32_t encoding,
                      uint32_t target,
                      gp_done done,
                      void *data,
                      uint64_t *job,
                      gp_error *error);

// As gp_load_by_name, or as gp_load_by_name_with_config if `config` is not null, in the background as
// gp_compute_start. gp_job_graph gives the graph.
//
// Threads: any, at any time.
gp_code gp_load_by_name_start(gp_guest *guest,
                              const char *name,
                              size_t name_length,
                              const char *config,
                              size_t config_length,
                              gp_done done,
                              void *data,
                              uint64_t *job,
                              gp_error *error);

// The library's version, such as "0.1.0". The text lives as long as the library.
//
// Threads: any, at any time.
const char *gp_version(void);

// The library's GP_ABI. A program that finds another number than its header's must not call anything else.
//
// Threads: any, at any time.
uint32_t gp_abi(void);

// Registers the models of a directory as gp_register_directory does, except names that are taken, and follows it until
// the watch is closed: a new file is registered, and a file that another is renamed over is reloaded. A file that
// can't be built leaves the version before in use. `watch` gets the number that gp_watch_close takes. A watch does not
// keep the engine.
//
// Threads: any, at any time.
gp_code gp_watch_directory(gp_engine *engine, const char *path, uint32_t target, uint64_t *watch, gp_error *error);

// Ends a watch, and waits for a reload of it that is under way.
//
// Threads: any, at any time. Of several calls with one watch, one succeeds.
gp_code gp_watch_close(uint64_t watch, gp_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GRAPHPOOL_H */
