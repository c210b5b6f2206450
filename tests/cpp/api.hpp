// What the loader's classes promise besides running a model, in a program of its own: `check api PATH`, where PATH is
// an artifact with inputs x f32[n, k], and outputs y f32[n, m].
#ifndef TESTS_CPP_API_HPP
#define TESTS_CPP_API_HPP

#include <sys/wait.h>

#include <thread>
#include <vitrify.hpp>

namespace api {

inline void expect(bool holds, const char *what) {
    if (!holds) throw vitrify::RunError(std::string("not so: ") + what);
}

template <class Error, class Call>
void expect_error(Call call, const char *text) {
    try {
        call();
    } catch (const Error &error) {
        expect(std::string(error.what()).find(text) != std::string::npos, error.what());
        return;
    }
    throw vitrify::RunError(std::string("nothing was thrown: ") + text);
}

inline void tensors() {
    using vitrify::DType;
    using vitrify::InvalidArgumentError;
    using vitrify::Tensor;
    const Tensor t({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
    expect(t.dtype() == DType::f32 && t.size() == 6 && t.size_bytes() == 24, "size");
    expect(t.values<float>() == std::vector<float>({1, 2, 3, 4, 5, 6}), "values");
    expect(reinterpret_cast<std::uintptr_t>(t.bytes()) % 64 == 0, "alignment");
    const Tensor copy = t;
    copy.data<float>()[0] = 9;
    expect(t.data<float>()[0] == 9, "copies share memory");
    expect(Tensor({}, std::vector<std::int64_t>{7}).size() == 1, "a scalar");
    expect(Tensor({0, 1 << 30, 1 << 30}, std::vector<bool>{}).size() == 0, "an empty tensor");
    expect(Tensor::zeros(DType::bf16, {3}).size_bytes() == 6, "raw bits");
    expect_error<InvalidArgumentError>([&] { t.data<double>(); }, "expected f64; got f32");
    expect_error<InvalidArgumentError>([] { Tensor({2}, std::vector<float>{1}); }, "expected 2 for dims [2]; got 1");
    expect_error<InvalidArgumentError>([] { Tensor::zeros(DType::f32, {-1}); }, "none below 0");
    expect_error<InvalidArgumentError>([] { Tensor::zeros(DType::f64, {1LL << 40, 1LL << 40}); }, "fewer elements");
    expect_error<InvalidArgumentError>([] { Tensor::borrow<float>({1}, nullptr); }, "a null pointer");
}

// Memory of the caller is read where it is.
inline void borrowed(const vitrify::Session &session) {
    alignas(64) float values[13] = {};
    for (int i = 0; i < 13; i++) values[i] = static_cast<float>(i) / 7;
    const auto named = session.run_named({{"x", vitrify::Tensor::borrow({3, 4}, values)}});
    expect(named.size() == 1 && named.at("y").dims() == vitrify::Dims({3, 3}), "outputs by name");
    char *const odd = reinterpret_cast<char *>(values) + 2;
    expect_error<vitrify::InvalidArgumentError>(
        [&] { session.run({{"x", vitrify::Tensor::borrow(vitrify::DType::f32, {3, 4}, odd)}}); },
        "aligned to its elements");
}

inline std::vector<float> result(const vitrify::Session &session) {
    const vitrify::Tensor x({4, 8}, std::vector<float>(32, 0.5f));
    return session.run({{"x", x}})[0].values<float>();
}

// Sessions outlive what they were made of, are made by many threads at once, and go on in a forked child.
inline void lives(const std::string &path) {
    auto first = std::make_unique<vitrify::Session>(vitrify::load(path), 2);
    const std::vector<float> expected = result(*first);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 8; i++) {
        threads.emplace_back([&] {
            for (int round = 0; round < 5; round++)
                wrong += result(vitrify::Session(vitrify::load(path), 2)) != expected;
        });
    }
    for (std::thread &thread : threads) thread.join();
    expect(wrong == 0, "all sessions give the same");
    first.reset();
    expect(result(vitrify::Session(vitrify::load(path), 2)) == expected, "it can be loaded again");
    const pid_t child = ::fork();
    if (child == 0) ::_exit(result(vitrify::Session(vitrify::load(path), 2)) == expected ? 0 : 1);
    int status = 0;
    expect(::waitpid(child, &status, 0) == child && status == 0, "a forked child runs");
}

inline void stops(const vitrify::Session &session) {
    vitrify::StopFlag stop;
    const vitrify::Tensor x({4, 8}, std::vector<float>(32, 0.5f));
    expect(session.run({{"x", x}}, &stop).size() == 1, "a flag that is not set");
    stop.set();
    expect_error<vitrify::TerminatedError>([&] { session.run({{"x", x}}, &stop); }, "ended by its StopFlag");
    stop.clear();
    expect(session.run({{"x", x}}, &stop).size() == 1, "a flag that is cleared");
}

inline void errors(const std::string &path) {
    try {
        vitrify::load(path + ".none");
        throw vitrify::RunError("loaded");
    } catch (const vitrify::ArtifactError &error) {
        const vitrify::ArtifactError copy = error;
        expect(copy.code() == 11 && std::string(copy.name()) == "ContainerError", "class and status");
        expect(copy.path() == path + ".none" && copy.hint() == "check the path", "path and hint");
    }
    expect_error<vitrify::InvalidArgumentError>([&] { vitrify::Session(vitrify::load(path), -1); },
                                                "expected 0 to 1024");
    vitrify::LoadOptions elsewhere;
    elsewhere.trust_directory = "/nonexistent";
    expect_error<vitrify::UntrustedKeyError>([&] { vitrify::load(path, elsewhere); }, "too few trusted keys");
}

inline void all(const std::string &path) {
    tensors();
    const vitrify::Artifact artifact = vitrify::load(path);
    expect(artifact.inputs().size() == 1 && artifact.inputs()[0].name == "x", "inputs");
    expect(artifact.signers().size() == 1 && artifact.seal().has_value(), "signers");
    const vitrify::Session session(artifact, 1);
    expect(session.threads() == 1 && session.outputs()[0].dtype == "f32", "the session's own words");
    borrowed(session);
    stops(session);
    errors(path);
    lives(path);
}

}  // namespace api

#endif
