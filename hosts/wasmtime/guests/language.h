// What guests do with a language model: input 0 is the prompt, input 1 the options, output 0 the text, output 1 the
// counts of tokens.

#ifndef LANGUAGE_H
#define LANGUAGE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { PROMPT = 0, OPTIONS = 1, TEXT = 0, COUNTS = 1 };

static inline void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline void expect(int32_t code, int32_t expected, const char *call) {
    if (code != expected) {
        fail("%s: errno %d instead of %d", call, (int)code, (int)expected);
    }
}

// Sets an input to a text. Older programs give the dimension 1 whatever the length is.
static inline int32_t set_text(uint32_t context, uint32_t index, const char *text, uint32_t dimension) {
    struct tensor tensor = {&dimension, 1, U8, text, strlen(text)};
    return nn_set_input(context, index, &tensor);
}

// A number of a JSON object with one level.
static inline long json_number(const char *json, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *found = strstr(json, quoted);
    if (found == NULL) {
        fail("no %s in %s", key, json);
    }
    // Blanks before the number are skipped.
    return strtol(found + strlen(quoted), NULL, 10);
}

// A count of output 1, which can be read as soon as the prompt is set.
static inline long token_count(uint32_t context, const char *key) {
    char json[256];
    uint32_t size;
    expect(nn_get_output(context, COUNTS, json, sizeof json - 1, &size), SUCCESS, "get_output of the counts");
    json[size] = 0;
    return json_number(json, key);
}

#endif
