// llama.cpp's part of llm_speed, on one thread. It measures what its input asks for, a line for each:
//
//   prompt N                  passes a prompt of N tokens
//   generate SESSIONS N DEPTH has each of SESSIONS sequences choose N tokens after DEPTH others
//
// and answers with the seconds that it took. Its arguments are the folder of ggml's backends and the model.
// scripts/build_llama_speed.sh builds it.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void decode(llama_context *context, const llama_batch &batch) {
    if (llama_decode(context, batch) != 0) {
        fprintf(stderr, "llama_decode failed\n");
        exit(1);
    }
}

static void add(llama_batch &batch, llama_token token, int position, int sequence, bool wanted) {
    int at = batch.n_tokens++;
    batch.token[at] = token;
    batch.pos[at] = position;
    batch.n_seq_id[at] = 1;
    batch.seq_id[at][0] = sequence;
    batch.logits[at] = wanted;
}

static void prompt(llama_context *context, llama_batch &batch, int vocabulary, int count) {
    batch.n_tokens = 0;
    for (int position = 0; position < count; position++) {
        add(batch, rand() % vocabulary, position, 0, position + 1 == count);
    }
    decode(context, batch);
    llama_synchronize(context);
}

static double generate(llama_context *context, llama_batch &batch, int vocabulary, int sessions, int count, int depth) {
    std::vector<llama_token> tokens(sessions);
    for (int session = 0; session < sessions; session++) {
        batch.n_tokens = 0;
        for (int position = 0; position < depth; position++) {
            add(batch, rand() % vocabulary, position, session, position + 1 == depth);
        }
        decode(context, batch);
        tokens[session] = rand() % vocabulary;
    }
    llama_synchronize(context);
    double start = now();
    for (int step = 0; step < count; step++) {
        batch.n_tokens = 0;
        for (int session = 0; session < sessions; session++) {
            add(batch, tokens[session], depth + step, session, true);
        }
        decode(context, batch);
        for (int session = 0; session < sessions; session++) {
            const float *logits = llama_get_logits_ith(context, session);
            tokens[session] = std::max_element(logits, logits + vocabulary) - logits;
        }
    }
    return now() - start;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s BACKENDS MODEL\n", argv[0]);
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    ggml_backend_load_all_from_path(argv[1]);
    llama_backend_init();
    llama_model *model = llama_model_load_from_file(argv[2], llama_model_default_params());
    if (!model) {
        fprintf(stderr, "%s can't be loaded\n", argv[2]);
        return 1;
    }
    llama_context_params parameters = llama_context_default_params();
    parameters.n_ctx = 16384;
    parameters.n_batch = 2048;
    parameters.n_seq_max = 16;
    parameters.n_threads = parameters.n_threads_batch = 1;
    llama_context *context = llama_init_from_model(model, parameters);
    if (!context) {
        fprintf(stderr, "no context\n");
        return 1;
    }
    int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_batch batch = llama_batch_init(2048, 0, 1);
    char line[256];
    while (fgets(line, sizeof line, stdin)) {
        int count, sessions, depth;
        double seconds;
        llama_memory_clear(llama_get_memory(context), true);
        if (sscanf(line, "prompt %d", &count) == 1 && count > 0 && count <= 2048) {
            double start = now();
            prompt(context, batch, vocabulary, count);
            seconds = now() - start;
        } else if (sscanf(line, "generate %d %d %d", &sessions, &count, &depth) == 3 && sessions > 0 &&
                   sessions <= 16 && count > 0 && depth > 0 && depth <= 2048 && depth + count <= 16384 / 16) {
            seconds = generate(context, batch, vocabulary, sessions, count, depth);
        } else {
            fprintf(stderr, "not a request: %s", line);
            return 2;
        }
        printf("%.9f\n", seconds);
        fflush(stdout);
    }
}
