;; A component that does what the host asks: each export passes its numbers to the import of the same name, and the host
;; reads and writes the memory. So a test chooses every number that an import gets.
(module
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[constructor]tensor"
    (func $new-tensor (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[method]tensor.dimensions" (func $dimensions (param i32 i32)))
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[method]tensor.ty" (func $ty (param i32) (result i32)))
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[method]tensor.data" (func $data (param i32 i32)))
  (import "wasi:nn/tensor@0.2.0-rc-2024-10-28" "[resource-drop]tensor" (func $drop-tensor (param i32)))
  (import "wasi:nn/errors@0.2.0-rc-2024-10-28" "[method]error.code" (func $error-code (param i32) (result i32)))
  (import "wasi:nn/errors@0.2.0-rc-2024-10-28" "[method]error.data" (func $error-data (param i32 i32)))
  (import "wasi:nn/errors@0.2.0-rc-2024-10-28" "[resource-drop]error" (func $drop-error (param i32)))
  (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "load" (func $load (param i32 i32 i32 i32 i32)))
  (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "load-by-name" (func $load-by-name (param i32 i32 i32)))
  (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "[method]graph.init-execution-context"
    (func $init-execution-context (param i32 i32)))
  (import "wasi:nn/graph@0.2.0-rc-2024-10-28" "[resource-drop]graph" (func $drop-graph (param i32)))
  (import "wasi:nn/inference@0.2.0-rc-2024-10-28" "[method]graph-execution-context.compute"
    (func $compute (param i32 i32 i32 i32)))
  (import "wasi:nn/inference@0.2.0-rc-2024-10-28" "[resource-drop]graph-execution-context"
    (func $drop-context (param i32)))

  (export "new-tensor" (func $new-tensor))
  (export "dimensions" (func $dimensions))
  (export "ty" (func $ty))
  (export "data" (func $data))
  (export "drop-tensor" (func $drop-tensor))
  (export "error-code" (func $error-code))
  (export "error-data" (func $error-data))
  (export "drop-error" (func $drop-error))
  (export "load" (func $load))
  (export "load-by-name" (func $load-by-name))
  (export "init-execution-context" (func $init-execution-context))
  (export "drop-graph" (func $drop-graph))
  (export "compute" (func $compute))
  (export "drop-context" (func $drop-context))

  ;; The first page is the test's; what the host returns lies behind it.
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 65536))

  (func (export "reset") (global.set $next (i32.const 65536)))

  (func $allocate (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32)
    (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
      (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.shr_u
              (i32.add (i32.sub (global.get $next) (i32.shl (memory.size) (i32.const 16))) (i32.const 65535))
              (i32.const 16))))
          (then (unreachable)))))
    (local.get $at))

  (func (export "allocate") (param $size i32) (result i32)
    (call $allocate (i32.const 0) (i32.const 0) (i32.const 1) (local.get $size)))

  (func (export "write") (param $to i32) (param $from i32) (param $length i32)
    (memory.copy (local.get $to) (local.get $from) (local.get $length)))

  (func (export "read") (param $at i32) (param $length i32) (result i32)
    (i32.store (i32.const 65520) (local.get $at))
    (i32.store (i32.const 65524) (local.get $length))
    (i32.const 65520))

  ;; Computes without inputs, over and over.
  (func (export "compute-forever") (param $context i32) (param $result i32)
    (loop $again
      (call $compute (local.get $context) (i32.const 0) (i32.const 0) (local.get $result))
      (if (i32.load8_u (local.get $result))
        (then (call $drop-error (i32.load offset=4 (local.get $result)))))
      (br $again))))
