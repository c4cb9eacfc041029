;; The world `ml` as a component's imports: every name and type of the published interfaces.
(component
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" (instance $tensors
    (export "tensor" (type $tensor (sub resource)))
    (type $list-u32 (list u32))
    (export "tensor-dimensions" (type $dimensions (eq $list-u32)))
    (type $types (enum "FP16" "FP32" "FP64" "BF16" "U8" "I32" "I64"))
    (export "tensor-type" (type $type (eq $types)))
    (type $list-u8 (list u8))
    (export "tensor-data" (type $data (eq $list-u8)))
    (export "[constructor]tensor"
      (func (param "dimensions" $dimensions) (param "ty" $type) (param "data" $data) (result (own $tensor))))
    (export "[method]tensor.dimensions" (func (param "self" (borrow $tensor)) (result $dimensions)))
    (export "[method]tensor.ty" (func (param "self" (borrow $tensor)) (result $type)))
    (export "[method]tensor.data" (func (param "self" (borrow $tensor)) (result $data)))))
  (alias export $tensors "tensor" (type $tensor))

  (import "wasi:nn/errors@0.2.0-rc-2024-10-28" (instance $errors
    (type $codes (enum "invalid-argument" "invalid-encoding" "timeout" "runtime-error" "unsupported-operation"
      "too-large" "not-found" "security" "unknown"))
    (export "error-code" (type $code (eq $codes)))
    (export "error" (type $error (sub resource)))
    (export "[method]error.code" (func (param "self" (borrow $error)) (result $code)))
    (export "[method]error.data" (func (param "self" (borrow $error)) (result string)))))
  (alias export $errors "error" (type $error))

  (import "wasi:nn/inference@0.2.0-rc-2024-10-28" (instance $inference
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (alias outer 1 $tensor (type $outer-tensor))
    (export "tensor" (type $tensor (eq $outer-tensor)))
    (type $pair (tuple string (own $tensor)))
    (export "named-tensor" (type $named (eq $pair)))
    (export "graph-execution-context" (type $context (sub resource)))
    (export "[method]graph-execution-context.compute"
      (func (param "self" (borrow $context)) (param "inputs" (list $named))
        (result (result (list $named) (error (own $error))))))))
  (alias export $inference "graph-execution-context" (type $context))

  (import "wasi:nn/graph@0.2.0-rc-2024-10-28" (instance
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (alias outer 1 $tensor (type $outer-tensor))
    (export "tensor" (type (eq $outer-tensor)))
    (alias outer 1 $context (type $outer-context))
    (export "graph-execution-context" (type $context (eq $outer-context)))
    (export "graph" (type $graph (sub resource)))
    (type $encodings (enum "openvino" "onnx" "tensorflow" "pytorch" "tensorflowlite" "ggml" "autodetect"))
    (export "graph-encoding" (type $encoding (eq $encodings)))
    (type $targets (enum "cpu" "gpu" "tpu"))
    (export "execution-target" (type $target (eq $targets)))
    (type $list-u8 (list u8))
    (export "graph-builder" (type $builder (eq $list-u8)))
    (export "[method]graph.init-execution-context"
      (func (param "self" (borrow $graph)) (result (result (own $context) (error (own $error))))))
    (export "load"
      (func (param "builder" (list $builder)) (param "encoding" $encoding) (param "target" $target)
        (result (result (own $graph) (error (own $error))))))
    (export "load-by-name"
      (func (param "name" string) (result (result (own $graph) (error (own $error)))))))))
