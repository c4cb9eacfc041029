// The images of examples/models/digits, and how a result is printed.

#ifndef DIGITS_H
#define DIGITS_H

#include <stdint.h>
#include <stdio.h>

enum { PIXELS = 64, CLASSES = 10 };

static const uint32_t IMAGE_DIMS[] = {1, 1, 8, 8};

// Reads the next image: one byte a pixel, 0 to 16. Returns 0 at the end of the file.
static inline int read_image(FILE *file, float image[PIXELS]) {
    uint8_t bytes[PIXELS];
    if (fread(bytes, 1, PIXELS, file) != PIXELS) {
        return 0;
    }
    for (int i = 0; i < PIXELS; i++) {
        image[i] = bytes[i] * 0.0625f;
    }
    return 1;
}

// Prints the likeliest class and its probability.
static inline void print_class(int row, const float probabilities[CLASSES]) {
    int best = 0;
    for (int i = 1; i < CLASSES; i++) {
        if (probabilities[i] > probabilities[best]) {
            best = i;
        }
    }
    printf("%d: %d %.4f\n", row, best, probabilities[best]);
}

#endif
