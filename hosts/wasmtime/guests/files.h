// Files of the directories that the host opens for the guest.

#ifndef FILES_H
#define FILES_H

#include <stdio.h>
#include <stdlib.h>

static inline FILE *open_or_exit(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

// Reads a whole file. The caller frees it.
static inline void *read_file(const char *path, size_t *length) {
    FILE *file = open_or_exit(path);
    fseek(file, 0, SEEK_END);
    long end = ftell(file);
    rewind(file);
    *length = end;
    void *bytes = malloc(end);
    if (end < 0 || bytes == NULL || fread(bytes, 1, end, file) != (size_t)end) {
        fprintf(stderr, "%s: not read\n", path);
        exit(1);
    }
    fclose(file);
    return bytes;
}

#endif
