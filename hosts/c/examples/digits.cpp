// Prints the digit that the model sees on an image: digits MODEL IMAGES [NUMBER]. Engine and guest close themselves.
#include <graphpool.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(gp_code code, const gp_error &error) {
    if (code != GP_CODE_OK) {
        throw std::runtime_error(error.message);
    }
}

// Calls a function with its arguments and an error, which becomes an exception.
template <typename Function, typename... Arguments>
void call(Function function, Arguments... arguments) {
    gp_error error;
    check(function(arguments..., &error), error);
}

struct Close {
    void operator()(gp_engine *engine) const { gp_engine_close(engine, nullptr); }
    void operator()(gp_guest *guest) const { gp_guest_close(guest, nullptr); }
};

using Engine = std::unique_ptr<gp_engine, Close>;
using Guest = std::unique_ptr<gp_guest, Close>;

Engine make_engine() {
    gp_engine *engine = nullptr;
    call(gp_engine_create, nullptr, &engine);
    return Engine(engine);
}

Guest make_guest(const Engine &engine) {
    gp_guest *guest = nullptr;
    call(gp_guest_create, engine.get(), nullptr, &guest);
    return Guest(guest);
}

std::vector<float> pixels_of(const char *path, long number) {
    std::array<char, 64> bytes;
    std::ifstream file(path, std::ios::binary);
    if (!file.seekg(number * 64) || !file.read(bytes.data(), bytes.size())) {
        throw std::runtime_error("no image " + std::to_string(number) + " in " + path);
    }
    std::vector<float> pixels(bytes.size());
    std::transform(bytes.begin(), bytes.end(), pixels.begin(), [](char byte) { return byte / 16.0f; });
    return pixels;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc < 3 || gp_abi() != GP_ABI) {
        std::cerr << "usage: digits MODEL IMAGES [NUMBER]\n";
        return 2;
    }
    const std::vector<float> pixels = pixels_of(argv[2], argc > 3 ? std::strtol(argv[3], nullptr, 10) : 0);
    const Engine engine = make_engine();
    gp_model_options model = {};
    model.encoding = GP_ENCODING_ONNX;
    call(gp_register_path, engine.get(), "digits", argv[1], &model);

    const Guest guest = make_guest(engine);
    std::uint32_t graph = 0, context = 0;
    call(gp_load_by_name, guest.get(), "digits", 6, &graph);
    call(gp_init_execution_context, guest.get(), graph, &context);
    const std::array<std::uint32_t, 4> sizes = {1, 1, 8, 8};
    gp_tensor input = {};
    input.dimensions = sizes.data();
    input.rank = sizes.size();
    input.data = pixels.data();
    input.length = pixels.size() * sizeof(float);
    input.element_type = GP_TYPE_F32;
    call(gp_set_input, guest.get(), context, 0, &input);
    call(gp_compute, guest.get(), context);

    // First the length, then the output.
    std::size_t length = 0;
    gp_get_output(guest.get(), context, 0, nullptr, 0, &length, nullptr);
    std::vector<float> classes(length / sizeof(float));
    call(gp_get_output, guest.get(), context, 0, classes.data(), length, &length);
    const auto top = std::max_element(classes.begin(), classes.end());
    std::printf("%td (%.1f %%)\n", top - classes.begin(), 100 * *top);
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
}
