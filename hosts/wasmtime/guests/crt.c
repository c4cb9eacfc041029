// The start of a command: constructors, main, destructors. wasi-libc of 2022 leaves the constructors to the linker,
// which wraps every export with them; the canonical ABI calls such exports more than once.

#include <stdlib.h>

void __wasm_call_ctors(void);
void __wasm_call_dtors(void);
int __main_void(void);

__attribute__((export_name("_start"))) void _start(void) {
    __wasm_call_ctors();
    int code = __main_void();
    __wasm_call_dtors();
    if (code != 0) {
        exit(code);
    }
}
