// Voice activity in a recording, without Python: the demo's speech model, streamed in chunks of 32 ms.
//
//     vad speech.vit speech.wav
//
// prints the probability of speech in each chunk, one to a line, and on stderr what it took.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vitrify.hpp>

namespace {

constexpr std::int64_t rate = 16000, chunk = 512, context = 64;  // samples; each chunk begins with the end of the last

std::uint32_t number(const std::string &data, std::size_t at, std::size_t bytes) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; i++)
        value |= static_cast<std::uint32_t>(static_cast<unsigned char>(data.at(at + i))) << 8 * i;
    return value;
}

// Samples from -1 to 1 of a WAV with 16 kHz, one channel, 16 bits.
std::vector<float> read_recording(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (data.compare(0, 4, "RIFF") != 0 || data.size() < 12 || data.compare(8, 4, "WAVE") != 0)
        throw std::runtime_error(path + ": not a WAV");
    bool known = false;
    for (std::size_t at = 12; at + 8 <= data.size();) {
        const std::string name = data.substr(at, 4);
        const std::size_t size = number(data, at + 4, 4), body = at + 8;
        if (name == "fmt ") {
            known = number(data, body, 2) == 1 && number(data, body + 2, 2) == 1 && number(data, body + 4, 4) == rate &&
                    number(data, body + 14, 2) == 16;
        }
        if (name == "data" && known) {
            std::vector<float> samples;
            for (std::size_t i = body; i + 2 <= std::min(body + size, data.size()); i += 2) {
                samples.push_back(static_cast<float>(static_cast<std::int16_t>(number(data, i, 2))) / 32768.0f);
            }
            return samples;
        }
        at = body + size + size % 2;
    }
    throw std::runtime_error(path + ": expected 16 kHz, one channel, 16 bits");
}

void stream(const vitrify::Session &session, const std::vector<float> &samples) {
    const auto input = vitrify::Tensor::zeros(vitrify::DType::f32, {1, context + chunk});
    auto state = vitrify::Tensor::zeros(vitrify::DType::f32, {2, 1, 128});
    const vitrify::Tensor sample_rate({}, std::vector<std::int64_t>{rate});
    float *const joined = input.data<float>();
    std::chrono::nanoseconds spent{0};
    std::size_t chunks = 0;
    for (std::size_t at = 0; at + chunk <= samples.size(); at += chunk, chunks++) {
        std::copy(joined + chunk, joined + chunk + context, joined);
        std::copy(samples.begin() + static_cast<std::ptrdiff_t>(at),
                  samples.begin() + static_cast<std::ptrdiff_t>(at + chunk), joined + context);
        const auto start = std::chrono::steady_clock::now();
        std::vector<vitrify::Tensor> outputs = session.run({{"input", input}, {"state", state}, {"sr", sample_rate}});
        spent += std::chrono::steady_clock::now() - start;
        std::printf("%.9g\n", static_cast<double>(*outputs[0].data<float>()));
        state = outputs[1];
    }
    if (chunks)
        std::fprintf(stderr, "%zu chunks, %.1f us each\n", chunks,
                     static_cast<double>(spent.count()) / 1e3 / static_cast<double>(chunks));
}

}  // namespace

int main(int count, char **values) {
    if (count != 3) {
        std::cerr << "usage: vad ARTIFACT RECORDING\n";
        return 2;
    }
    try {
        const vitrify::Artifact artifact = vitrify::load(values[1]);
        stream(vitrify::Session(artifact, 1), read_recording(values[2]));
        return 0;
    } catch (const vitrify::Error &error) {
        std::cerr << error.name() << ": " << error.what() << '\n';
        return error.code();
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
